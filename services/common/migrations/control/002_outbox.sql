-- Every event, those of the audit trail too, waits here for the relay, written in the transaction that it tells of. The
-- columns are those that Debezium's outbox router reads, so that CDC can take the relay's place. `seq` is the order of
-- writing, which is the order of a key; it is no offset, since a later commit may carry a smaller one.
ALTER TABLE soma.outbox RENAME TO outbox_001;
ALTER TABLE soma.outbox_001 RENAME CONSTRAINT outbox_pkey TO outbox_001_pkey;

CREATE TABLE soma.outbox (
    seq           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id            uuid NOT NULL,
    aggregatetype text NOT NULL,
    aggregateid   text NOT NULL,
    type          text NOT NULL,
    payload       json NOT NULL,
    tenant        text NOT NULL,
    slot          smallint NOT NULL CHECK (slot BETWEEN 0 AND 15),
    traceparent   text NOT NULL DEFAULT '',
    create_time   timestamptz NOT NULL DEFAULT now()
);
COMMENT ON COLUMN soma.outbox.aggregatetype IS 'the topic';
COMMENT ON COLUMN soma.outbox.aggregateid IS 'the key: tenant/subject';
COMMENT ON COLUMN soma.outbox.slot IS 'CRC-32 of the key, modulo 16: it gives the partition and the relay''s shard';
ALTER TABLE soma.outbox SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000,
                             autovacuum_vacuum_cost_delay = 0);
ALTER TABLE soma.outbox ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_tenant ON soma.outbox FOR INSERT TO soma_tenant WITH CHECK ('t_' || tenant = current_user);
GRANT INSERT ON soma.outbox TO soma_tenant;

-- What was told before comes along, as canonical JSON: flat, its names in order.
CREATE FUNCTION soma.canonical(body jsonb) RETURNS json LANGUAGE sql IMMUTABLE AS $$
    SELECT ('{' || string_agg(to_json(key)::text || ':' || value::text, ',' ORDER BY key COLLATE "C") || '}')::json
    FROM jsonb_each(body)
$$;
INSERT INTO soma.outbox (id, aggregatetype, aggregateid, type, payload, tenant, slot, traceparent, create_time)
SELECT id, topic, key, type, soma.canonical(body), tenant, 0, traceparent, create_time
FROM soma.outbox_001 ORDER BY create_time, id;
INSERT INTO soma.outbox (id, aggregatetype, aggregateid, type, payload, tenant, slot, create_time)
SELECT id, 'agent.audit', tenant || '/' || (body->>'subject'), action, soma.canonical(body), tenant, 0, create_time
FROM soma.audit ORDER BY create_time, id;
DROP FUNCTION soma.canonical(jsonb);
DROP TABLE soma.outbox_001, soma.audit;

-- Those who work on the log for all tenants: the relay, the sealer, consumers.
CREATE ROLE soma_worker NOLOGIN;
GRANT USAGE ON SCHEMA soma TO soma_worker;
CREATE POLICY workers ON soma.outbox TO soma_worker USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, DELETE ON soma.outbox TO soma_worker;

ALTER FUNCTION soma.make_room(text, text) RENAME TO make_room_001;
CREATE FUNCTION soma.make_room(room text, password text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM soma.make_room_001(room, password);
    IF room = 'workers' THEN
        GRANT soma_worker TO soma_workers WITH INHERIT TRUE;
    END IF;
END $$;
