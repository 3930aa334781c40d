-- The log: what the relay took from the outbox, with offsets that were given after commit. One table a day, so that
-- retention drops tables. Times of a partition never run backwards, whatever the clock does.
CREATE TABLE soma.log (
    topic       text NOT NULL,
    part        int NOT NULL,
    "offset"    bigint NOT NULL,
    time        timestamptz NOT NULL,
    id          uuid NOT NULL,
    size        int NOT NULL,
    tenant      text NOT NULL,
    key         text NOT NULL,
    type        text NOT NULL,
    payload     json NOT NULL,
    traceparent text NOT NULL,
    PRIMARY KEY (topic, part, "offset", time)
) PARTITION BY RANGE (time);
COMMENT ON COLUMN soma.log.size IS 'bytes of the payload';
CREATE TABLE soma.log_default PARTITION OF soma.log DEFAULT;
COMMENT ON TABLE soma.log_default IS 'the net: what comes on a day that has no table';

-- Where each partition ends. Whoever appends holds its row until commit, so that offsets are seen in order.
CREATE TABLE soma.log_heads (
    topic text NOT NULL,
    part  int NOT NULL,
    next  bigint NOT NULL DEFAULT 0,
    time  timestamptz NOT NULL DEFAULT '-infinity',
    PRIMARY KEY (topic, part)
) WITH (fillfactor = 50);

-- Where each group stands in each partition, and which of its members reads it until when.
CREATE TABLE soma.log_groups (
    "group"     text NOT NULL,
    topic       text NOT NULL,
    part        int NOT NULL,
    "offset"    bigint,
    since       timestamptz NOT NULL DEFAULT '-infinity',
    term        bigint NOT NULL DEFAULT 0,
    holder      uuid,
    expire_time timestamptz,
    PRIMARY KEY ("group", topic, part)
) WITH (fillfactor = 50);
COMMENT ON COLUMN soma.log_groups."offset" IS 'after the last committed one; null: nothing was committed yet';
COMMENT ON COLUMN soma.log_groups.since IS 'no entry from this offset on is older';
COMMENT ON COLUMN soma.log_groups.term IS 'rises with each new holder and each seek: what began in an earlier term is void';

CREATE TABLE soma.log_members (
    "group"     text NOT NULL,
    member      uuid NOT NULL,
    topics      text[] NOT NULL,
    expire_time timestamptz NOT NULL,
    PRIMARY KEY ("group", member)
);

-- Rows that no log could take, with the reason. They go back into the outbox, in their old order, when a relay starts.
CREATE TABLE soma.outbox_aside (
    seq           bigint PRIMARY KEY,
    id            uuid NOT NULL,
    aggregatetype text NOT NULL,
    aggregateid   text NOT NULL,
    type          text NOT NULL,
    payload       json NOT NULL,
    tenant        text NOT NULL,
    slot          smallint NOT NULL,
    traceparent   text NOT NULL,
    create_time   timestamptz NOT NULL,
    reason        text NOT NULL,
    aside_time    timestamptz NOT NULL DEFAULT now()
);

GRANT SELECT, INSERT ON soma.log TO soma_worker;
GRANT SELECT, INSERT, UPDATE ON soma.log_heads TO soma_worker;
GRANT SELECT, INSERT, UPDATE ON soma.log_groups TO soma_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON soma.log_members TO soma_worker;
GRANT SELECT, INSERT, DELETE ON soma.outbox_aside TO soma_worker;

-- make_log_days makes the tables of today and so many days ahead. Rows of such a day that the net has caught move over.
-- It waits for no long reader: what cannot be made now is made the next time.
CREATE FUNCTION soma.make_log_days(ahead int) RETURNS SETOF text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '2s' AS $$
DECLARE
    today date := (now() AT TIME ZONE 'UTC')::date;
    day date; name text; first timestamptz; last timestamptz;
BEGIN
    FOR day IN SELECT today + n FROM generate_series(0, ahead) AS n LOOP
        name := 'log_' || to_char(day, 'YYYYMMDD');
        CONTINUE WHEN to_regclass('soma.' || name) IS NOT NULL;
        first := day::timestamp AT TIME ZONE 'UTC';
        last := (day + 1)::timestamp AT TIME ZONE 'UTC';
        LOCK TABLE soma.log IN SHARE UPDATE EXCLUSIVE MODE;
        CONTINUE WHEN to_regclass('soma.' || name) IS NOT NULL;
        LOCK TABLE soma.log_default IN ACCESS EXCLUSIVE MODE;
        EXECUTE format('CREATE TABLE soma.%I (LIKE soma.log INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', name);
        EXECUTE format('WITH caught AS (DELETE FROM soma.log_default WHERE time >= %L AND time < %L RETURNING *) '
                       'INSERT INTO soma.%I SELECT * FROM caught', first, last, name);
        EXECUTE format('ALTER TABLE soma.log ATTACH PARTITION soma.%I FOR VALUES FROM (%L) TO (%L)', name, first, last);
        RETURN NEXT name;
    END LOOP;
EXCEPTION WHEN lock_not_available THEN
    RETURN;
END $$;
REVOKE ALL ON FUNCTION soma.make_log_days(int) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION soma.make_log_days(int) TO soma_worker;
SELECT soma.make_log_days(7);
