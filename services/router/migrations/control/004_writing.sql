-- The books, the decisions and what is told of them, by one statement, which becomes the tenant's for its transaction.
-- `given` has four lists: `asked` is soma.book's; what each of the others writes down belongs to the `n`th of it, counted
-- from 1, and is written when that was done.
CREATE FUNCTION soma.write_books(of_tenant text, given jsonb, lease interval)
RETURNS TABLE (outcome text, overrun_microusd bigint, overrun_tokens bigint, room json)
LANGUAGE plpgsql SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE done text[] := '{}';
BEGIN
    PERFORM set_config('role', 't_' || of_tenant, true),
            set_config('search_path', format('%I, ext', 't_' || of_tenant), true);
    FOR outcome, overrun_microusd, overrun_tokens, room IN SELECT b.* FROM soma.book(given->'asked', lease) b LOOP
        done := done || outcome;
        RETURN NEXT;
    END LOOP;
    IF 'held' = ANY (done) THEN
        INSERT INTO decisions (id, subject, turn, requested_tier, provider, model, tier, decision, context_hash,
                               create_time)
        SELECT a.id, a.subject, a.turn, a.requested_tier, a.provider, a.model, a.tier, decode(a.decision, 'base64'),
               a.context_hash, now()
        FROM jsonb_to_recordset(given->'decided') AS a (
            n int, id uuid, subject text, turn text, requested_tier text, provider text, model text, tier text,
            decision text, context_hash text)
        WHERE done[a.n] = 'held' ON CONFLICT DO NOTHING;
    END IF;
    IF jsonb_array_length(given->'settled') > 0 THEN
        UPDATE decisions d SET provider = coalesce(s.provider, d.provider), model = coalesce(s.model, d.model),
            tier = coalesce(s.tier, d.tier), decision = coalesce(decode(s.decision, 'base64'), d.decision),
            input_tokens = s.input_tokens, output_tokens = s.output_tokens, estimated = s.estimated,
            cost_microusd = s.cost_microusd, first_token_ms = s.first_token_ms, finish_reason = s.finish_reason,
            reason = s.reason, settle_time = now()
        FROM jsonb_to_recordset(given->'settled') AS s (
            n int, id uuid, provider text, model text, tier text, decision text, input_tokens bigint,
            output_tokens bigint, estimated boolean, cost_microusd bigint, first_token_ms bigint, finish_reason text,
            reason text)
        WHERE d.id = s.id AND d.settle_time IS NULL AND done[s.n] IN ('settle', 'release');
    END IF;
    INSERT INTO soma.outbox (id, tenant, aggregatetype, aggregateid, type, payload, slot, traceparent)
    SELECT t.id, t.tenant, t.topic, t.key, t.type, t.payload::json, t.slot, t.traceparent
    FROM jsonb_to_recordset(given->'told') AS t (
        n int, id uuid, tenant text, topic text, key text, type text, payload text, slot int2, traceparent text)
    WHERE done[t.n] IN ('held', 'settle', 'release');
END $$;
REVOKE ALL ON FUNCTION soma.write_books FROM PUBLIC;
GRANT EXECUTE ON FUNCTION soma.write_books TO soma_room;
