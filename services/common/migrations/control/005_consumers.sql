-- What a group of consumers remembers of the log: the events that are done, and the letters: events that it could not
-- do yet, those of their keys that wait behind them, and those that were given up.

-- A mark is set in the transaction that handles the event, so that an event delivered twice is handled once. Marks are
-- kept for some days; the day is that of the event's id, a UUIDv7. Ids of other days are in the default partition.
CREATE TABLE soma.handled (
    "group" text NOT NULL,
    id   uuid NOT NULL,
    time timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY ("group", id)
) PARTITION BY RANGE (id);
CREATE TABLE soma.handled_other PARTITION OF soma.handled DEFAULT;
GRANT SELECT, INSERT, DELETE ON soma.handled TO soma_worker;

CREATE TABLE soma.retries (
    "group"     text NOT NULL,
    id          uuid NOT NULL,
    state       text NOT NULL CHECK (state IN ('waiting', 'dead', 'dropped')),
    attempt     int NOT NULL,
    due_time    timestamptz NOT NULL,
    reason      text NOT NULL,
    topic       text NOT NULL,
    part        int NOT NULL,
    "offset"    bigint NOT NULL,
    tenant      text NOT NULL,
    key         text NOT NULL,
    type        text NOT NULL,
    payload     bytea NOT NULL,
    traceparent text NOT NULL,
    log_time    timestamptz NOT NULL,
    create_time timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY ("group", id)
);
COMMENT ON COLUMN soma.retries.due_time IS 'infinity: it waits for an earlier event of its key';
CREATE INDEX retries_by_due_time ON soma.retries ("group", due_time) WHERE state = 'waiting';
CREATE INDEX retries_by_key ON soma.retries ("group", topic, key, "offset") WHERE state = 'waiting';
GRANT SELECT, INSERT, UPDATE, DELETE ON soma.retries TO soma_worker;

-- id_at is below every UUIDv7 made at that time or later, and above those before it.
CREATE FUNCTION soma.id_at(moment timestamptz) RETURNS uuid LANGUAGE sql STABLE AS $$
    SELECT (lpad(to_hex(floor(extract(epoch FROM moment) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid
$$;

-- roll_handled makes the partitions of these days and drops those older than `days`. May be repeated, by anyone at any
-- time: what somebody else is at, or is in the way of, is left to the next time.
CREATE FUNCTION soma.roll_handled(days int) RETURNS void LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET lock_timeout = '1s' AS $$
DECLARE today date := (now() AT TIME ZONE 'UTC')::date; day date; part text;
BEGIN
    IF NOT pg_try_advisory_xact_lock(hashtext('soma.roll_handled')) THEN
        RETURN;
    END IF;
    FOR day IN SELECT today + n FROM generate_series(0, 2) n LOOP
        part := 'handled_' || to_char(day, 'YYYYMMDD');
        CONTINUE WHEN to_regclass('soma.' || part) IS NOT NULL;
        BEGIN
            EXECUTE format('CREATE TABLE soma.%I PARTITION OF soma.handled FOR VALUES FROM (%L) TO (%L)', part,
                           soma.id_at(day::timestamp AT TIME ZONE 'UTC'),
                           soma.id_at((day + 1)::timestamp AT TIME ZONE 'UTC'));
        EXCEPTION WHEN check_violation THEN
            NULL;  -- marks of that day are in the default partition already, and stay there
        END;
    END LOOP;
    FOR part IN SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
                WHERE i.inhparent = 'soma.handled'::regclass AND c.relname ~ '^handled_[0-9]{8}$'
                AND substr(c.relname, 9) < to_char(today - days, 'YYYYMMDD') LOOP
        EXECUTE format('DROP TABLE soma.%I', part);
    END LOOP;
    DELETE FROM soma.handled_other WHERE time < now() - make_interval(days => days);
    DELETE FROM soma.retries WHERE state = 'dropped' AND create_time < now() - interval '30 days';
EXCEPTION WHEN lock_not_available THEN
    RETURN;
END $$;
REVOKE ALL ON FUNCTION soma.roll_handled(int) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION soma.roll_handled(int) TO soma_worker;
