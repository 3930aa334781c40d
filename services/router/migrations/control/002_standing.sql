-- Where budgets stand. Reading only.
CREATE FUNCTION soma.width_of(period text) RETURNS interval LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE period WHEN 'hour' THEN interval '1 hour' WHEN 'day' THEN interval '24 hours'
                       WHEN 'month' THEN interval '720 hours' END
$$;

CREATE FUNCTION soma.bucket_of(period text, rolling boolean, at timestamptz) RETURNS timestamptz LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN period = 'total' THEN '-infinity'
                WHEN rolling THEN date_bin(soma.width_of(period) / 60, at, 'epoch')
                ELSE date_trunc(period, at, 'UTC') END
$$;

CREATE FUNCTION soma.window_begin(period text, rolling boolean, at timestamptz) RETURNS timestamptz
LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN period = 'total' THEN '-infinity'
                WHEN rolling THEN date_bin(soma.width_of(period) / 60, at - soma.width_of(period), 'epoch')
                ELSE date_trunc(period, at, 'UTC') END
$$;
COMMENT ON FUNCTION soma.window_begin IS 'The first bucket that counts: of a rolling window the whole of the oldest.';

-- The budgets that bound `one` in a scope, of whatever tier, with what bounds it now. Not `rules`: it is kept counted, and
-- somebody's own takes its place.
CREATE FUNCTION soma.budgets_of(of_tenant text, of_scope text, one text, at timestamptz)
RETURNS TABLE (id uuid, period text, rolling boolean, tier text, rules boolean, microusd bigint, tokens bigint, requests bigint)
LANGUAGE sql STABLE AS $$
    SELECT b.id, b.period, b.rolling, b.tier,
           b.whose = one OR NOT EXISTS (
               SELECT FROM soma.budgets o WHERE o.tenant = b.tenant AND o.scope = b.scope AND o.whose = one
                   AND o.period = b.period AND o.tier = b.tier),
           CASE WHEN b.override_end_time > at THEN b.override_microusd ELSE b.microusd END,
           CASE WHEN b.override_end_time > at THEN b.override_tokens ELSE b.tokens END,
           CASE WHEN b.override_end_time > at THEN b.override_requests ELSE b.requests END
    FROM soma.budgets b WHERE b.tenant = of_tenant AND b.scope = of_scope AND b.whose IN (one, '*')
$$;

-- The same for all that such calls fall under.
CREATE FUNCTION soma.budgets_over(
    whose text, subject text, team text, conversation text, task text, key text, at timestamptz
) RETURNS TABLE (id uuid, scope text, one text, period text, rolling boolean, tier text, rules boolean,
                 microusd bigint, tokens bigint, requests bigint) LANGUAGE sql STABLE AS $$
    SELECT b.id, e.scope, e.one, b.period, b.rolling, b.tier, b.rules, b.microusd, b.tokens, b.requests
    FROM (VALUES ('tenant', ''), ('team', team), ('user', subject), ('conversation', conversation), ('task', task),
                 ('key', key)) e (scope, one), LATERAL soma.budgets_of(whose, e.scope, e.one, at) b
    WHERE e.scope = 'tenant' OR e.one <> ''
$$;

-- What live holds and the ledger say of a budget, for one of those whom it bounds: the definition of its standing.
CREATE FUNCTION soma.is_of(scope text, one text, tier text, subject text, team text, conversation text, task text,
                           key text, used_tier text) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
    SELECT (tier = '' OR tier = used_tier) AND
           CASE scope WHEN 'tenant' THEN true WHEN 'user' THEN subject = one WHEN 'team' THEN team = one
                      WHEN 'conversation' THEN conversation = one WHEN 'task' THEN task = one ELSE key = one END
$$;

CREATE FUNCTION soma.held_of(
    of_tenant text, of_scope text, one text, of_tier text, at timestamptz,
    OUT microusd bigint, OUT tokens bigint, OUT requests bigint
) LANGUAGE sql STABLE AS $$
    SELECT coalesce(sum(h.microusd), 0), coalesce(sum(h.tokens), 0), coalesce(sum(h.requests), 0) FROM soma.holds h
    WHERE h.tenant = of_tenant AND h.expire_time > at
        AND soma.is_of(of_scope, one, of_tier, h.subject, h.team, h.conversation, h.task, h.key, h.tier)
$$;

CREATE FUNCTION soma.spent_by(of_tenant text, of_scope text, one text, of_tier text, since timestamptz)
RETURNS TABLE (moment timestamptz, microusd bigint, tokens bigint, requests bigint) LANGUAGE plpgsql STABLE AS $$
BEGIN  -- one branch a scope, so that each has its index
    IF of_scope = 'tenant' THEN
        RETURN QUERY SELECT l.time, l.microusd, l.tokens, l.requests FROM soma.ledger l WHERE l.kind = 'settle'
            AND l.tenant = of_tenant AND l.time >= since AND (of_tier = '' OR l.tier = of_tier);
    ELSIF of_scope = 'user' THEN
        RETURN QUERY SELECT l.time, l.microusd, l.tokens, l.requests FROM soma.ledger l WHERE l.kind = 'settle'
            AND l.tenant = of_tenant AND l.subject = one AND l.time >= since AND (of_tier = '' OR l.tier = of_tier);
    ELSIF of_scope = 'team' THEN
        RETURN QUERY SELECT l.time, l.microusd, l.tokens, l.requests FROM soma.ledger l WHERE l.kind = 'settle'
            AND l.tenant = of_tenant AND l.team = one AND l.team <> '' AND l.time >= since
            AND (of_tier = '' OR l.tier = of_tier);
    ELSIF of_scope = 'conversation' THEN
        RETURN QUERY SELECT l.time, l.microusd, l.tokens, l.requests FROM soma.ledger l WHERE l.kind = 'settle'
            AND l.tenant = of_tenant AND l.conversation = one AND l.conversation <> '' AND l.time >= since
            AND (of_tier = '' OR l.tier = of_tier);
    ELSIF of_scope = 'task' THEN
        RETURN QUERY SELECT l.time, l.microusd, l.tokens, l.requests FROM soma.ledger l WHERE l.kind = 'settle'
            AND l.tenant = of_tenant AND l.task = one AND l.task <> '' AND l.time >= since
            AND (of_tier = '' OR l.tier = of_tier);
    ELSE
        RETURN QUERY SELECT l.time, l.microusd, l.tokens, l.requests FROM soma.ledger l WHERE l.kind = 'settle'
            AND l.tenant = of_tenant AND l.key = one AND l.key <> '' AND l.time >= since
            AND (of_tier = '' OR l.tier = of_tier);
    END IF;
END $$;

-- Where a budget stands for one whom it bounds, by the holds and the ledger, lock or no lock.
CREATE FUNCTION soma.standing(
    of_tenant text, budget uuid, scope text, one text, period text, rolling boolean, tier text, at timestamptz
) RETURNS TABLE (settled_microusd bigint, settled_tokens bigint, settled_requests bigint,
                 held_microusd bigint, held_tokens bigint, held_requests bigint, oldest timestamptz)
LANGUAGE plpgsql STABLE AS $$
DECLARE since timestamptz := soma.window_begin(period, rolling, at);
BEGIN
    IF EXISTS (SELECT FROM soma.accounts a
               WHERE a.tenant = of_tenant AND a.budget = standing.budget AND a.whose = one) THEN
        SELECT sum(b.microusd), sum(b.tokens), sum(b.requests), min(b.bucket)
        INTO settled_microusd, settled_tokens, settled_requests, oldest FROM soma.budget_spend b
        WHERE b.tenant = of_tenant AND b.budget = standing.budget AND b.whose = one AND b.bucket >= since;
    ELSE
        SELECT sum(l.microusd), sum(l.tokens), sum(l.requests), min(soma.bucket_of(period, rolling, l.moment))
        INTO settled_microusd, settled_tokens, settled_requests, oldest
        FROM soma.spent_by(of_tenant, scope, one, tier, since) l;
    END IF;
    settled_microusd := coalesce(settled_microusd, 0);
    settled_tokens := coalesce(settled_tokens, 0);
    settled_requests := coalesce(settled_requests, 0);
    SELECT h.microusd, h.tokens, h.requests INTO held_microusd, held_tokens, held_requests
    FROM soma.held_of(of_tenant, scope, one, tier, at) h;
    RETURN NEXT;
END $$;

CREATE FUNCTION soma.renewal(period text, rolling boolean, oldest timestamptz, at timestamptz) RETURNS timestamptz
LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN period = 'total' THEN NULL
                WHEN rolling THEN greatest(at, oldest + soma.width_of(period) / 60 + soma.width_of(period))
                ELSE (date_trunc(period, at AT TIME ZONE 'UTC') + ('1 ' || period)::interval) AT TIME ZONE 'UTC' END
$$;
COMMENT ON FUNCTION soma.renewal IS 'When there is room again; of a rolling window when its oldest spending leaves it.';

-- What is left of each budget that such calls fall under, whatever their tier. One object a budget.
CREATE FUNCTION soma.room_over(of_tenant text, subject text, team text, conversation text, task text, key text, at timestamptz)
RETURNS json LANGUAGE sql STABLE AS $$
    SELECT coalesce(json_agg(json_build_object(
        'budget', f.id, 'scope', f.scope, 'whose', f.one, 'period', f.period, 'rolling', f.rolling, 'tier', f.tier,
        'microusd', CASE WHEN f.microusd IS NOT NULL THEN greatest(0, f.microusd - s.settled_microusd - s.held_microusd) END,
        'tokens', CASE WHEN f.tokens IS NOT NULL THEN greatest(0, f.tokens - s.settled_tokens - s.held_tokens) END,
        'requests', CASE WHEN f.requests IS NOT NULL THEN greatest(0, f.requests - s.settled_requests - s.held_requests) END,
        'renews', soma.renewal(f.period, f.rolling, s.oldest, at))), '[]')
    FROM soma.budgets_over(of_tenant, subject, team, conversation, task, key, at) f,
        LATERAL soma.standing(of_tenant, f.id, f.scope, f.one, f.period, f.rolling, f.tier, at) s
    WHERE f.rules
$$;
