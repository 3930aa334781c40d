-- What the archiver has written, read back and found right: a row an object, added in the transaction in which the
-- events are marked as done. Nobody is granted more than to add to it.
CREATE TABLE soma.archived (
    object text PRIMARY KEY,
    log    text NOT NULL,
    tenant text NOT NULL,
    topic  text NOT NULL,
    part   int NOT NULL,
    hour   timestamptz NOT NULL,
    first  bigint NOT NULL,
    last   bigint NOT NULL CHECK (last >= first),
    events int NOT NULL CHECK (events > 0),
    sha256 bytea NOT NULL CHECK (octet_length(sha256) = 32),
    bytes  bigint NOT NULL,
    time   timestamptz NOT NULL DEFAULT now()
);
COMMENT ON COLUMN soma.archived.log IS 'the engine whose offsets these are';
COMMENT ON COLUMN soma.archived.last IS 'offsets from first to last, of this tenant, are in the object, or were before';
COMMENT ON COLUMN soma.archived.sha256 IS 'of the object, compressed as it is';
CREATE INDEX archived_by_offset ON soma.archived (topic, part, tenant, last);
CREATE INDEX archived_by_hour ON soma.archived (hour);
GRANT SELECT, INSERT ON soma.archived TO soma_worker;

-- log_days are the days that have a table of the log.
CREATE VIEW soma.log_days AS
SELECT to_date(substr(c.relname, 5), 'YYYYMMDD') AS day
FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = 'soma.log'::regclass AND c.relname ~ '^log_[0-9]{8}$';
GRANT SELECT ON soma.log_days TO soma_worker;

-- drop_log_day drops one day of the log; or it answers why the day stays: whoever asks, it holds a topic that is younger
-- than `kept` allows (topic -> days), or what a group has yet to read. Whether the day is archived its caller knows.
CREATE FUNCTION soma.drop_log_day(day date, kept jsonb) RETURNS text LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET lock_timeout = '2s' AS $$
DECLARE
    today date := (now() AT TIME ZONE 'UTC')::date;
    name text := 'log_' || to_char(day, 'YYYYMMDD');
    head record; ends_at bigint; behind text;
BEGIN
    FOR head IN SELECT topic, part FROM soma.log_heads LOOP
        EXECUTE format('SELECT "offset" FROM soma.%I WHERE topic = $1 AND part = $2 ORDER BY "offset" DESC LIMIT 1',
                       name) INTO ends_at USING head.topic, head.part;
        CONTINUE WHEN ends_at IS NULL;
        IF today - day <= coalesce((kept->>head.topic)::int, 36500) THEN
            RETURN format('%s is kept for longer', head.topic);
        END IF;
        SELECT "group" INTO behind FROM soma.log_groups AS lease
        WHERE lease.topic = head.topic AND lease.part = head.part AND coalesce(lease."offset", 0) <= ends_at LIMIT 1;
        IF behind IS NOT NULL THEN
            RETURN format('the group %s has yet to read %s %s up to %s', behind, head.topic, head.part, ends_at);
        END IF;
    END LOOP;
    EXECUTE format('DROP TABLE soma.%I', name);
    RETURN NULL;
EXCEPTION
    WHEN undefined_table THEN
        RETURN 'somebody else drops it';
    WHEN lock_not_available THEN
        RETURN 'somebody is reading it';
END $$;
REVOKE ALL ON FUNCTION soma.drop_log_day(date, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION soma.drop_log_day(date, jsonb) TO soma_worker;
