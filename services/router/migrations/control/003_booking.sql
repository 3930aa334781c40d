-- The deeds under the ledger lock. Rooms reach soma.book and what stands after it, in a tenant's transaction.
CREATE FUNCTION soma.open_account(
    of_tenant text, of_budget uuid, of_scope text, one text, of_period text, is_rolling boolean, of_tier text, at timestamptz
) RETURNS void LANGUAGE sql AS $$
    INSERT INTO soma.accounts (tenant, budget, whose, held_microusd, held_tokens, held_requests)
    SELECT of_tenant, of_budget, one, h.microusd, h.tokens, h.requests FROM soma.held_of(of_tenant, of_scope, one, of_tier, at) h;
    INSERT INTO soma.budget_spend (tenant, budget, whose, bucket, microusd, tokens, requests)
    SELECT of_tenant, of_budget, one, soma.bucket_of(of_period, is_rolling, l.moment), sum(l.microusd), sum(l.tokens), sum(l.requests)
    FROM soma.spent_by(of_tenant, of_scope, one, of_tier, soma.window_begin(of_period, is_rolling, at)) l GROUP BY 4;
$$;

-- Counts what a call holds more, or less, wherever it counts.
CREATE FUNCTION soma.count_held(h soma.holds, microusd bigint, tokens bigint, requests bigint, at timestamptz) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    UPDATE soma.accounts a SET held_microusd = a.held_microusd + count_held.microusd,
        held_tokens = a.held_tokens + count_held.tokens, held_requests = a.held_requests + count_held.requests
    FROM soma.budgets_over(h.tenant, h.subject, h.team, h.conversation, h.task, h.key, at) f
    WHERE f.tier IN ('', h.tier) AND a.tenant = h.tenant AND a.budget = f.id AND a.whose = f.one;
END $$;

CREATE FUNCTION soma.expire_holds(of_tenant text, at timestamptz) RETURNS void LANGUAGE plpgsql AS $$
DECLARE h soma.holds;
BEGIN
    FOR h IN DELETE FROM soma.holds WHERE tenant = of_tenant AND expire_time <= at RETURNING * LOOP
        PERFORM soma.count_held(h, -h.microusd, -h.tokens, -h.requests, at);
        INSERT INTO soma.ledger (tenant, call_id, kind, time, subject, team, conversation, task, key, provider, model,
                                 tier, lost_microusd)
        VALUES (h.tenant, h.call_id, 'expire', at, h.subject, h.team, h.conversation, h.task, h.key, h.provider, h.model,
                h.tier, h.microusd) ON CONFLICT DO NOTHING;
    END LOOP;
    UPDATE soma.ledgers SET sweep_time =
        (SELECT coalesce(min(expire_time), 'infinity') FROM soma.holds WHERE tenant = of_tenant)
    WHERE tenant = of_tenant;
END $$;

-- Takes the ledger lock, drops what has expired, and says what time it is: it goes forward from lock to lock.
CREATE FUNCTION soma.lock_ledger(of_tenant text) RETURNS timestamptz LANGUAGE plpgsql AS $$
DECLARE due timestamptz; at timestamptz;
BEGIN
    SELECT sweep_time INTO due FROM soma.ledgers WHERE tenant = of_tenant FOR UPDATE;
    IF NOT FOUND THEN
        INSERT INTO soma.ledgers (tenant) VALUES (of_tenant) ON CONFLICT DO NOTHING;
        SELECT sweep_time INTO due FROM soma.ledgers WHERE tenant = of_tenant FOR UPDATE;
    END IF;
    at := clock_timestamp();
    IF due <= at THEN
        PERFORM soma.expire_holds(of_tenant, at);
    END IF;
    RETURN at;
END $$;

-- What is asked of a call, with what is known of it: a call stays whose it was when it began.
CREATE TYPE soma.entry AS (
    n bigint, verdict text, op text, call_id uuid, subject text, team text, conversation text, task text, key text,
    provider text, model text, tier text, microusd bigint, tokens bigint, requests bigint, input_tokens bigint,
    output_tokens bigint, calls uuid[], is_known boolean, lost_microusd bigint,
    held_tier text, held_microusd bigint, held_tokens bigint, held_requests bigint
);
COMMENT ON COLUMN soma.entry.verdict IS 'null: it has to be counted';
COMMENT ON COLUMN soma.entry.held_tier IS 'null: it holds nothing';

CREATE FUNCTION soma.entries_of(of_tenant text, asked jsonb, after bigint) RETURNS SETOF soma.entry LANGUAGE sql STABLE AS $$
    SELECT a.n, CASE WHEN a.op = 'renew' THEN 'renewed' WHEN past.is_over AND a.op = 'settle' THEN 'repeated'
                     WHEN past.is_over THEN 'over' WHEN past.is_over IS NULL AND a.op = 'settle' THEN 'unknown'
                     WHEN past.is_over IS NOT NULL AND a.op = 'admit' THEN 'repeated' END,
           a.op, a.call_id, coalesce(past.subject, a.subject), coalesce(past.team, a.team),
           coalesce(past.conversation, a.conversation), coalesce(past.task, a.task), coalesce(past.key, a.key), a.provider,
           a.model, a.tier, a.microusd, a.tokens, a.requests, coalesce(a.input_tokens, 0), coalesce(a.output_tokens, 0),
           a.calls, past.is_over IS NOT NULL, past.lost_microusd, h.tier, coalesce(h.microusd, 0), coalesce(h.tokens, 0),
           coalesce(h.requests, 0)
    FROM ROWS FROM (jsonb_to_recordset(asked) AS (
        op text, call_id uuid, subject text, team text, conversation text, task text, key text, provider text, model text,
        tier text, microusd bigint, tokens bigint, requests bigint, input_tokens bigint, output_tokens bigint, calls uuid[]
    )) WITH ORDINALITY AS a (op, call_id, subject, team, conversation, task, key, provider, model, tier, microusd, tokens,
                             requests, input_tokens, output_tokens, calls, n)
    CROSS JOIN LATERAL (
        SELECT bool_or(l.kind IN ('settle', 'release')) AS is_over, sum(l.lost_microusd)::bigint AS lost_microusd,
               min(l.subject) AS subject, min(l.team) AS team, min(l.conversation) AS conversation, min(l.task) AS task,
               min(l.key) AS key
        FROM soma.ledger l WHERE l.tenant = of_tenant AND l.call_id = a.call_id) past
    LEFT JOIN LATERAL (
        SELECT * FROM soma.holds h WHERE h.tenant = of_tenant AND h.call_id = a.call_id LIMIT 1) h ON true
    WHERE a.n > after
$$;

-- Where each budget stands that one of these entries falls under, as it is counted: only under the lock. Lists are in one
-- order. What is left is null for no bound, and below 0 where a limit was lowered.
CREATE TYPE soma.counted AS (
    budgets uuid[], scopes text[], ones text[], tiers text[], buckets timestamptz[], rules boolean[],
    left_microusd bigint[], left_tokens bigint[], left_requests bigint[], is_open boolean[]
);

CREATE FUNCTION soma.left_of(most bigint, settled numeric, held bigint) RETURNS bigint LANGUAGE sql IMMUTABLE AS $$
    SELECT greatest(most - settled - coalesce(held, 0), CASE WHEN most IS NOT NULL THEN -4e18 END)::bigint
$$;

CREATE FUNCTION soma.counted_for(of_tenant text, entries soma.entry[], at timestamptz) RETURNS soma.counted
LANGUAGE plpgsql AS $$
DECLARE c soma.counted;
BEGIN
    FOR attempt IN 1..2 LOOP
        SELECT array_agg(f.id), array_agg(p.scope), coalesce(array_agg(p.one), '{}'), array_agg(f.tier),
               array_agg(soma.bucket_of(f.period, f.rolling, at)), array_agg(f.rules),
               array_agg(soma.left_of(f.microusd, s.microusd, a.held_microusd)),
               array_agg(soma.left_of(f.tokens, s.tokens, a.held_tokens)),
               array_agg(soma.left_of(f.requests, s.requests, a.held_requests)), array_agg(a.budget IS NOT NULL)
        INTO c
        FROM (SELECT DISTINCT v.scope, v.one
              FROM unnest(entries) e, LATERAL (
                  VALUES ('tenant', ''), ('team', e.team), ('user', e.subject), ('conversation', e.conversation),
                         ('task', e.task), ('key', e.key)) v (scope, one)
              WHERE e.verdict IS NULL AND (v.scope = 'tenant' OR v.one <> '')) p
        CROSS JOIN LATERAL soma.budgets_of(of_tenant, p.scope, p.one, at) f
        LEFT JOIN LATERAL (
            SELECT * FROM soma.accounts a WHERE a.tenant = of_tenant AND a.budget = f.id AND a.whose = p.one LIMIT 1
        ) a ON true
        CROSS JOIN LATERAL (
            SELECT coalesce(sum(b.microusd), 0) AS microusd, coalesce(sum(b.tokens), 0) AS tokens,
                   coalesce(sum(b.requests), 0) AS requests
            FROM soma.budget_spend b WHERE b.tenant = of_tenant AND b.budget = f.id AND b.whose = p.one
                AND b.bucket >= soma.window_begin(f.period, f.rolling, at)) s;
        EXIT WHEN c.is_open IS NULL OR true = ALL (c.is_open);
        PERFORM soma.open_account(of_tenant, b.id, u.scope, u.one, b.period, b.rolling, b.tier, at)
        FROM unnest(c.budgets, c.scopes, c.ones, c.is_open) AS u (budget, scope, one, is_open)
        JOIN soma.budgets b ON b.tenant = of_tenant AND b.id = u.budget WHERE NOT u.is_open;
    END LOOP;
    RETURN c;
END $$;

-- What entries come to, in the same order.
CREATE TYPE soma.sums AS (microusd bigint[], tokens bigint[], requests bigint[]);

CREATE FUNCTION soma.write_down(
    of_tenant text, told soma.ledger[], ended uuid[], begun soma.holds[], c soma.counted, held soma.sums, spent soma.sums
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF ended <> '{}' THEN
        DELETE FROM soma.holds h WHERE h.tenant = of_tenant AND h.call_id = ANY (ended);
    END IF;
    IF begun <> '{}' THEN
        INSERT INTO soma.holds SELECT * FROM unnest(begun);
    END IF;
    IF told <> '{}' THEN
        INSERT INTO soma.ledger SELECT * FROM unnest(told);
    END IF;
    IF 0 <> ANY (held.microusd || held.tokens || held.requests) THEN
        UPDATE soma.accounts a SET held_microusd = a.held_microusd + u.microusd, held_tokens = a.held_tokens + u.tokens,
            held_requests = a.held_requests + u.requests
        FROM unnest(c.budgets, c.ones, held.microusd, held.tokens, held.requests)
            AS u (budget, one, microusd, tokens, requests)
        WHERE a.tenant = of_tenant AND a.budget = u.budget AND a.whose = u.one
            AND (u.microusd <> 0 OR u.tokens <> 0 OR u.requests <> 0);
    END IF;
    IF 0 < ANY (spent.microusd || spent.tokens || spent.requests) THEN
        INSERT INTO soma.budget_spend AS b (tenant, budget, whose, bucket, microusd, tokens, requests)
        SELECT of_tenant, u.* FROM unnest(c.budgets, c.ones, c.buckets, spent.microusd, spent.tokens, spent.requests)
            AS u (budget, one, bucket, microusd, tokens, requests)
        WHERE u.microusd > 0 OR u.tokens > 0 OR u.requests > 0
        ON CONFLICT (tenant, budget, whose, bucket) DO UPDATE SET microusd = b.microusd + excluded.microusd,
            tokens = b.tokens + excluded.tokens, requests = b.requests + excluded.requests;
    END IF;
END $$;

CREATE FUNCTION soma.check_router() RETURNS text LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF session_user <> 'soma_router' OR soma.tenant_at_work() IS NULL THEN
        RAISE insufficient_privilege USING MESSAGE = format('%s may not keep the books of a tenant', session_user);
    END IF;
    RETURN soma.tenant_at_work();
END $$;

-- Does what is asked for in the tenant's transaction, in order, and says of each what became of it. "admit" and "move":
-- held, short (nothing was changed), repeated or over (it has been settled); "settle": settle, release, repeated or unknown;
-- "renew": renewed. Of what goes beyond a hold as much is counted as fits every budget; the rest is an overrun, in no
-- budget's sums. A settlement has the model that answered at last.
--
-- It reads the books once, counts entry by entry in memory, and writes once. What has to see in the books what was counted
-- before it ends a round: a call that comes again, and a refusal, which says what is left.
CREATE FUNCTION soma.book(asked jsonb, lease interval)
RETURNS TABLE (outcome text, overrun_microusd bigint, overrun_tokens bigint, room json)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = '' SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE of_tenant text := soma.check_router(); at timestamptz := soma.lock_ledger(of_tenant);
        total bigint := jsonb_array_length(asked); done bigint := 0; has_held boolean := false; is_settle boolean; own int;
        entries soma.entry[]; e soma.entry; calls uuid[]; told soma.ledger[]; ended uuid[]; begun soma.holds[];
        c soma.counted; scopes text[]; ones text[]; tiers text[]; rules boolean[]; under int[]; k int; zero bigint[];
        left_m bigint[]; left_t bigint[]; left_r bigint[]; held_m bigint[]; held_t bigint[]; held_r bigint[];
        spent_m bigint[]; spent_t bigint[]; spent_r bigint[]; fits_m bigint; fits_t bigint; fits_r bigint;
BEGIN
    WHILE done < total LOOP
        entries := ARRAY(SELECT a FROM soma.entries_of(of_tenant, asked, done) a ORDER BY a.n);
        c := soma.counted_for(of_tenant, entries, at);
        scopes := c.scopes; ones := c.ones; tiers := c.tiers; rules := c.rules;
        left_m := c.left_microusd; left_t := c.left_tokens; left_r := c.left_requests;
        zero := array_fill(0::bigint, ARRAY[cardinality(ones)]);
        held_m := zero; held_t := zero; held_r := zero; spent_m := zero; spent_t := zero; spent_r := zero;
        calls := '{}'; told := '{}'; ended := '{}'; begun := '{}';
        FOREACH e IN ARRAY entries LOOP
            EXIT WHEN e.call_id = ANY (calls);
            outcome := e.verdict; overrun_microusd := 0; overrun_tokens := 0; room := NULL;
            IF e.op = 'renew' THEN
                UPDATE soma.holds h SET expire_time = at + lease WHERE h.tenant = of_tenant AND h.call_id = ANY (e.calls);
            ELSIF outcome IS NULL THEN
                is_settle := e.op = 'settle'; under := '{}';
                fits_m := e.microusd; fits_t := e.tokens; fits_r := e.requests;
                FOR k IN 1..cardinality(ones) LOOP  -- what fits beside all but what the call holds itself
                    CONTINUE WHEN ones[k] <> CASE scopes[k] WHEN 'tenant' THEN '' WHEN 'user' THEN e.subject
                        WHEN 'team' THEN e.team WHEN 'conversation' THEN e.conversation WHEN 'task' THEN e.task
                        ELSE e.key END;
                    under := under || k;
                    CONTINUE WHEN NOT rules[k] OR tiers[k] NOT IN ('', e.tier);
                    own := CASE WHEN tiers[k] IN ('', e.held_tier) THEN 1 ELSE 0 END;
                    fits_m := least(fits_m, greatest(left_m[k] - held_m[k] - spent_m[k] + own * e.held_microusd,
                        CASE WHEN left_m[k] IS NULL THEN NULL WHEN is_settle THEN own * e.held_microusd ELSE 0 END));
                    fits_t := least(fits_t, greatest(left_t[k] - held_t[k] - spent_t[k] + own * e.held_tokens,
                        CASE WHEN left_t[k] IS NULL THEN NULL WHEN is_settle THEN own * e.held_tokens ELSE 0 END));
                    fits_r := least(fits_r, greatest(left_r[k] - held_r[k] - spent_r[k] + own * e.held_requests,
                        CASE WHEN left_r[k] IS NULL THEN NULL WHEN is_settle THEN own * e.held_requests ELSE 0 END));
                END LOOP;
                IF NOT is_settle AND (fits_m < e.microusd OR fits_t < e.tokens OR fits_r < e.requests) THEN
                    EXIT WHEN calls <> '{}';
                    outcome := 'short';
                    room := soma.room_over(of_tenant, e.subject, e.team, e.conversation, e.task, e.key, at);
                ELSE
                    FOREACH k IN ARRAY under LOOP
                        IF tiers[k] IN ('', e.held_tier) AND e.held_tier IS NOT NULL THEN
                            held_m[k] := held_m[k] - e.held_microusd; held_t[k] := held_t[k] - e.held_tokens;
                            held_r[k] := held_r[k] - e.held_requests;
                        END IF;
                        CONTINUE WHEN tiers[k] NOT IN ('', e.tier);
                        IF is_settle THEN
                            spent_m[k] := spent_m[k] + fits_m; spent_t[k] := spent_t[k] + fits_t;
                            spent_r[k] := spent_r[k] + fits_r;
                        ELSE
                            held_m[k] := held_m[k] + fits_m; held_t[k] := held_t[k] + fits_t;
                            held_r[k] := held_r[k] + fits_r;
                        END IF;
                    END LOOP;
                    calls := calls || e.call_id;
                    IF e.held_tier IS NOT NULL THEN
                        ended := ended || e.call_id;
                    END IF;
                    IF is_settle THEN
                        outcome := CASE WHEN e.microusd = 0 AND e.tokens = 0 AND e.requests = 0 THEN 'release' ELSE 'settle' END;
                        overrun_microusd := e.microusd - fits_m; overrun_tokens := e.tokens - fits_t;
                    ELSE
                        outcome := 'held'; has_held := true;
                        begun := begun || ROW(of_tenant, e.call_id, e.subject, e.team, e.conversation, e.task, e.key,
                            e.provider, e.model, e.tier, fits_m, fits_t, fits_r, at + lease)::soma.holds;
                    END IF;
                    IF is_settle OR NOT e.is_known THEN
                        told := told || ROW(of_tenant, e.call_id, CASE WHEN is_settle THEN outcome ELSE 'hold' END, at,
                            e.subject, e.team, e.conversation, e.task, e.key, e.provider, e.model, e.tier, fits_m, fits_t,
                            fits_r, overrun_microusd, overrun_tokens, CASE WHEN is_settle THEN -e.lost_microusd ELSE 0 END,
                            e.input_tokens, e.output_tokens)::soma.ledger;
                    END IF;
                END IF;
            END IF;
            done := done + 1;
            RETURN NEXT;
        END LOOP;
        IF calls <> '{}' THEN
            PERFORM soma.write_down(of_tenant, told, ended, begun, c, ROW(held_m, held_t, held_r)::soma.sums,
                                    ROW(spent_m, spent_t, spent_r)::soma.sums);
        END IF;
    END LOOP;
    IF has_held THEN
        UPDATE soma.ledgers l SET sweep_time = at + lease WHERE l.tenant = of_tenant AND l.sweep_time > at + lease;
    END IF;
END $$;

CREATE FUNCTION soma.room_for(subject text, team text, conversation text, task text, key text) RETURNS json
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = '' SET enable_seqscan = off AS $$
    SELECT soma.room_over(soma.tenant_at_work(), subject, team, conversation, task, key, clock_timestamp())
$$;

CREATE FUNCTION soma.hold_ledger() RETURNS timestamptz
LANGUAGE sql SECURITY DEFINER SET search_path = '' AS $$ SELECT soma.lock_ledger(soma.check_router()) $$;
COMMENT ON FUNCTION soma.hold_ledger IS 'Until the end of the transaction nobody else admits or settles in the tenant.';

CREATE FUNCTION soma.count_budget(budget uuid) RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = '' AS $$
    SELECT soma.open_account(b.tenant, b.id, b.scope, b.whose, b.period, b.rolling, b.tier, clock_timestamp())
    FROM soma.budgets b WHERE b.tenant = soma.check_router() AND b.id = budget AND b.whose <> '*'
$$;
COMMENT ON FUNCTION soma.count_budget IS 'Begins to count a new budget, with what the ledger and the holds have of it.';

-- Lets go of what no window counts any more: it would be counted again from the ledger if it were needed.
CREATE FUNCTION soma.tidy_budgets() RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
DECLARE of_tenant text := soma.check_router(); at timestamptz := soma.lock_ledger(of_tenant); gone bigint;
BEGIN
    DELETE FROM soma.budget_spend s USING soma.budgets b
    WHERE s.tenant = of_tenant AND b.tenant = s.tenant AND b.id = s.budget
        AND s.bucket < soma.window_begin(b.period, b.rolling, at);
    DELETE FROM soma.accounts a USING soma.budgets b
    WHERE a.tenant = of_tenant AND b.tenant = a.tenant AND b.id = a.budget AND b.whose = '*'
        AND a.held_requests = 0 AND a.held_microusd = 0 AND a.held_tokens = 0
        AND NOT EXISTS (SELECT FROM soma.budget_spend s
                        WHERE s.tenant = a.tenant AND s.budget = a.budget AND s.whose = a.whose);
    GET DIAGNOSTICS gone = ROW_COUNT;
    RETURN gone;
END $$;

REVOKE ALL ON FUNCTION soma.open_account, soma.count_held, soma.expire_holds, soma.lock_ledger, soma.entries_of,
    soma.counted_for, soma.write_down, soma.book, soma.room_for, soma.hold_ledger, soma.count_budget, soma.tidy_budgets
    FROM PUBLIC;
GRANT EXECUTE ON FUNCTION soma.book, soma.room_for, soma.hold_ledger, soma.count_budget, soma.tidy_budgets TO soma_tenant;
