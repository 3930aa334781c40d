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

CREATE FUNCTION soma.open_accounts(h soma.holds, at timestamptz) RETURNS void LANGUAGE sql AS $$
    SELECT soma.open_account(h.tenant, f.id, f.scope, f.one, f.period, f.rolling, f.tier, at)
    FROM soma.budgets_over(h.tenant, h.subject, h.team, h.conversation, h.task, h.key, at) f
    WHERE NOT EXISTS (SELECT FROM soma.accounts a WHERE a.tenant = h.tenant AND a.budget = f.id AND a.whose = f.one)
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

-- Where each budget stands that such a call falls under, as it is counted: only under the lock. What is left, leaves out
-- what the call itself holds as `mine`; null for no bound.
CREATE FUNCTION soma.counted(c soma.holds, mine soma.holds, at timestamptz)
RETURNS TABLE (id uuid, one text, tier text, bucket timestamptz, is_open boolean, bounds boolean, own_microusd bigint, own_tokens bigint, own_requests bigint,
               left_microusd numeric, left_tokens numeric, left_requests numeric) LANGUAGE sql STABLE AS $$
    SELECT f.id, f.one, f.tier, soma.bucket_of(f.period, f.rolling, at), a.budget IS NOT NULL,
           f.rules AND f.tier IN ('', c.tier), o.microusd, o.tokens, o.requests,
           CASE WHEN f.microusd IS NOT NULL
                THEN greatest(0, f.microusd - s.microusd - coalesce(a.held_microusd, 0) + o.microusd) END,
           CASE WHEN f.tokens IS NOT NULL
                THEN greatest(0, f.tokens - s.tokens - coalesce(a.held_tokens, 0) + o.tokens) END,
           CASE WHEN f.requests IS NOT NULL
                THEN greatest(0, f.requests - s.requests - coalesce(a.held_requests, 0) + o.requests) END
    FROM soma.budgets_over(c.tenant, c.subject, c.team, c.conversation, c.task, c.key, at) f
    LEFT JOIN soma.accounts a ON a.tenant = c.tenant AND a.budget = f.id AND a.whose = f.one
    CROSS JOIN LATERAL (
        SELECT CASE WHEN f.tier IN ('', mine.tier) THEN coalesce(mine.microusd, 0) ELSE 0 END AS microusd,
               CASE WHEN f.tier IN ('', mine.tier) THEN coalesce(mine.tokens, 0) ELSE 0 END AS tokens,
               CASE WHEN f.tier IN ('', mine.tier) THEN coalesce(mine.requests, 0) ELSE 0 END AS requests) o
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(b.microusd), 0) AS microusd, coalesce(sum(b.tokens), 0) AS tokens,
               coalesce(sum(b.requests), 0) AS requests
        FROM soma.budget_spend b WHERE b.tenant = c.tenant AND b.budget = f.id AND b.whose = f.one
            AND b.bucket >= soma.window_begin(f.period, f.rolling, at)) s
$$;

-- Holds the most that a call can cost, in place of what it holds already, if all budgets have room: whether they have.
CREATE FUNCTION soma.hold_call(wanted soma.holds, at timestamptz) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE mine soma.holds; is_open boolean; is_short boolean; ids uuid[]; ones text[];
BEGIN
    SELECT * INTO mine FROM soma.holds WHERE tenant = wanted.tenant AND call_id = wanted.call_id;
    FOR attempt IN 1..2 LOOP
        SELECT bool_and(b.is_open), bool_or(b.bounds AND (wanted.microusd > b.left_microusd
            OR wanted.tokens > b.left_tokens OR wanted.requests > b.left_requests)),
            array_agg(b.id) FILTER (WHERE b.tier IN ('', wanted.tier)),
            array_agg(b.one) FILTER (WHERE b.tier IN ('', wanted.tier))
        INTO is_open, is_short, ids, ones FROM soma.counted(wanted, mine, at) b;
        EXIT WHEN is_open IS NOT FALSE;
        PERFORM soma.open_accounts(wanted, at);
    END LOOP;
    IF is_short THEN
        RETURN false;
    END IF;
    IF mine.call_id IS NOT NULL THEN
        PERFORM soma.count_held(mine, -mine.microusd, -mine.tokens, -mine.requests, at);
        DELETE FROM soma.holds WHERE tenant = wanted.tenant AND call_id = wanted.call_id;
    END IF;
    INSERT INTO soma.holds SELECT wanted.*;
    IF ids IS NOT NULL THEN
        UPDATE soma.accounts a SET held_microusd = a.held_microusd + wanted.microusd,
            held_tokens = a.held_tokens + wanted.tokens, held_requests = a.held_requests + wanted.requests
        FROM unnest(ids, ones) AS u (budget, one)
        WHERE a.tenant = wanted.tenant AND a.budget = u.budget AND a.whose = u.one;
    END IF;
    RETURN true;
END $$;

-- Ends a call: what it holds is let go of, what it used is booked. Of what goes beyond the hold as much is counted as
-- fits every budget; the rest is an overrun, in no budget's sums. `used` has the model that answered at last.
CREATE FUNCTION soma.settle_call(
    used soma.holds, input_tokens bigint, output_tokens bigint, at timestamptz,
    OUT outcome text, OUT overrun_microusd bigint, OUT overrun_tokens bigint
) LANGUAGE plpgsql AS $$
DECLARE mine soma.holds; past soma.ledger; lost bigint := 0; is_open boolean; is_known boolean := false;
        booked_microusd bigint; booked_tokens bigint; booked_requests bigint;
        held_ids uuid[]; held_ones text[]; ids uuid[]; ones text[]; buckets timestamptz[];
BEGIN
    FOR past IN SELECT * FROM soma.ledger l WHERE l.tenant = used.tenant AND l.call_id = used.call_id LOOP
        IF past.kind IN ('settle', 'release') THEN
            outcome := 'repeated';
            RETURN;
        END IF;
        is_known := true;
        used.subject := past.subject; used.team := past.team; used.conversation := past.conversation;
        used.task := past.task; used.key := past.key;
        lost := lost + past.lost_microusd;
    END LOOP;
    IF NOT is_known THEN
        outcome := 'unknown';
        RETURN;
    END IF;
    SELECT * INTO mine FROM soma.holds WHERE tenant = used.tenant AND call_id = used.call_id;
    FOR attempt IN 1..2 LOOP
        SELECT bool_and(b.is_open),
            least(used.microusd, min(greatest(b.own_microusd, b.left_microusd))
                FILTER (WHERE b.bounds AND b.left_microusd IS NOT NULL)),
            least(used.tokens, min(greatest(b.own_tokens, b.left_tokens))
                FILTER (WHERE b.bounds AND b.left_tokens IS NOT NULL)),
            least(used.requests, min(greatest(b.own_requests, b.left_requests))
                FILTER (WHERE b.bounds AND b.left_requests IS NOT NULL)),
            array_agg(b.id) FILTER (WHERE b.tier IN ('', mine.tier)),
            array_agg(b.one) FILTER (WHERE b.tier IN ('', mine.tier)),
            array_agg(b.id) FILTER (WHERE b.tier IN ('', used.tier)),
            array_agg(b.one) FILTER (WHERE b.tier IN ('', used.tier)),
            array_agg(b.bucket) FILTER (WHERE b.tier IN ('', used.tier))
        INTO is_open, booked_microusd, booked_tokens, booked_requests, held_ids, held_ones, ids, ones, buckets
        FROM soma.counted(used, mine, at) b;
        EXIT WHEN is_open IS NOT FALSE;
        PERFORM soma.open_accounts(used, at);
    END LOOP;
    IF mine.call_id IS NOT NULL THEN
        DELETE FROM soma.holds WHERE tenant = used.tenant AND call_id = used.call_id;
        UPDATE soma.accounts a SET held_microusd = a.held_microusd - mine.microusd,
            held_tokens = a.held_tokens - mine.tokens, held_requests = a.held_requests - mine.requests
        FROM unnest(held_ids, held_ones) AS u (budget, one)
        WHERE a.tenant = used.tenant AND a.budget = u.budget AND a.whose = u.one;
    END IF;
    IF ids IS NOT NULL AND (booked_microusd > 0 OR booked_tokens > 0 OR booked_requests > 0) THEN
        INSERT INTO soma.budget_spend AS b (tenant, budget, whose, bucket, microusd, tokens, requests)
        SELECT used.tenant, u.budget, u.one, u.bucket, booked_microusd, booked_tokens, booked_requests
        FROM unnest(ids, ones, buckets) AS u (budget, one, bucket)
        ON CONFLICT (tenant, budget, whose, bucket) DO UPDATE SET microusd = b.microusd + excluded.microusd,
            tokens = b.tokens + excluded.tokens, requests = b.requests + excluded.requests;
    END IF;
    overrun_microusd := used.microusd - booked_microusd;
    overrun_tokens := used.tokens - booked_tokens;
    outcome := CASE WHEN used.microusd = 0 AND used.tokens = 0 AND used.requests = 0 THEN 'release' ELSE 'settle' END;
    INSERT INTO soma.ledger (tenant, call_id, kind, time, subject, team, conversation, task, key, provider, model, tier,
                             microusd, tokens, requests, overrun_microusd, overrun_tokens, lost_microusd, input_tokens,
                             output_tokens)
    VALUES (used.tenant, used.call_id, outcome, at, used.subject, used.team, used.conversation, used.task, used.key,
            used.provider, used.model, used.tier, booked_microusd, booked_tokens, booked_requests, overrun_microusd,
            overrun_tokens, -lost, settle_call.input_tokens, settle_call.output_tokens);
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
-- "renew": renewed.
CREATE FUNCTION soma.book(asked jsonb, lease interval)
RETURNS TABLE (outcome text, overrun_microusd bigint, overrun_tokens bigint, room json)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = '' SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE of_tenant text := soma.check_router(); at timestamptz := soma.lock_ledger(of_tenant);
        one jsonb; c soma.holds; is_over boolean; has_held boolean := false;
BEGIN
    FOR one IN SELECT value FROM jsonb_array_elements(asked) LOOP
        outcome := NULL; overrun_microusd := 0; overrun_tokens := 0; room := NULL;
        c := jsonb_populate_record(NULL::soma.holds, one);
        c.tenant := of_tenant; c.expire_time := at + lease;
        CASE one->>'op'
        WHEN 'settle' THEN
            SELECT * INTO outcome, overrun_microusd, overrun_tokens
            FROM soma.settle_call(c, (one->>'input_tokens')::bigint, (one->>'output_tokens')::bigint, at);
        WHEN 'renew' THEN
            UPDATE soma.holds SET expire_time = c.expire_time
            WHERE tenant = of_tenant AND call_id = ANY (ARRAY(SELECT jsonb_array_elements_text(one->'calls'))::uuid[]);
            outcome := 'renewed';
        ELSE
            SELECT bool_or(l.kind IN ('settle', 'release')) INTO is_over FROM soma.ledger l
            WHERE l.tenant = of_tenant AND l.call_id = c.call_id;
            IF is_over THEN
                outcome := 'over';
            ELSIF is_over IS NOT NULL AND one->>'op' = 'admit' THEN
                outcome := 'repeated';
            ELSIF NOT soma.hold_call(c, at) THEN
                outcome := 'short';
                room := soma.room_over(of_tenant, c.subject, c.team, c.conversation, c.task, c.key, at);
            ELSE
                outcome := 'held'; has_held := true;
                INSERT INTO soma.ledger (tenant, call_id, kind, time, subject, team, conversation, task, key, provider,
                                         model, tier, microusd, tokens, requests)
                VALUES (c.tenant, c.call_id, 'hold', at, c.subject, c.team, c.conversation, c.task, c.key, c.provider,
                        c.model, c.tier, c.microusd, c.tokens, c.requests) ON CONFLICT DO NOTHING;
            END IF;
        END CASE;
        RETURN NEXT;
    END LOOP;
    IF has_held THEN
        UPDATE soma.ledgers SET sweep_time = at + lease WHERE tenant = of_tenant AND sweep_time > at + lease;
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

REVOKE ALL ON FUNCTION soma.open_account, soma.open_accounts, soma.count_held, soma.expire_holds, soma.lock_ledger,
    soma.hold_call, soma.settle_call, soma.book, soma.room_for, soma.hold_ledger, soma.count_budget, soma.tidy_budgets
    FROM PUBLIC;
GRANT EXECUTE ON FUNCTION soma.book, soma.room_for, soma.hold_ledger, soma.count_budget, soma.tidy_budgets TO soma_tenant;
