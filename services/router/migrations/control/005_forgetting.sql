-- Lets go of what the ledger has had of a tenant for so many days, `most` rows at once; how many are gone. What a window
-- may have to count again stays, whatever is asked for; what a budget's total has counted is counted without its rows.
-- An id says when a call was made by its router's clock, and Postgres' own time must say the same.
CREATE FUNCTION soma.forget_ledger(of_tenant text, days int, most int) RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path = '' AS $$
    WITH gone AS (
        DELETE FROM soma.ledger WHERE ctid = ANY (ARRAY(
            SELECT l.ctid FROM soma.ledger l, (SELECT now() - make_interval(days => greatest(days, 62)) AS before) e
            WHERE l.tenant = of_tenant AND l.call_id < soma.id_at(e.before) AND l.time < e.before LIMIT most))
        RETURNING 1)
    SELECT count(*) FROM gone
$$;
REVOKE ALL ON FUNCTION soma.forget_ledger FROM PUBLIC;
GRANT EXECUTE ON FUNCTION soma.forget_ledger TO soma_worker;
