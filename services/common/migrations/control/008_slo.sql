-- What the service level objectives are measured by. Counts follow from the two tables of facts below them, which make
-- an event count once however often it comes, in whatever order.
CREATE TABLE soma.slo_hours (
    tenant  text NOT NULL,
    hour    timestamptz NOT NULL,
    measure text NOT NULL,
    bucket  text NOT NULL,
    count   bigint NOT NULL,
    PRIMARY KEY (tenant, hour, measure, bucket)
) WITH (fillfactor = 50);
CREATE INDEX slo_hours_by_hour ON soma.slo_hours (hour);
COMMENT ON COLUMN soma.slo_hours.hour IS 'in which was asked, or told';
COMMENT ON COLUMN soma.slo_hours.bucket IS 'how it went; of a time the bound in ms that it is not above, or inf';

CREATE TABLE soma.slo_turns (
    turn           uuid NOT NULL,
    tenant         text NOT NULL,
    asked_time     timestamptz,
    decided_time   timestamptz,
    first_token_ms bigint,
    end_time       timestamptz,
    outcome        text,
    PRIMARY KEY (turn, tenant)
);
COMMENT ON TABLE soma.slo_turns IS 'what events have said of a turn so far';

CREATE TABLE soma.slo_audit (
    id     uuid NOT NULL,
    tenant text NOT NULL,
    hour   timestamptz NOT NULL,
    time   timestamptz NOT NULL,
    sealed boolean NOT NULL DEFAULT false,
    PRIMARY KEY (id, tenant)
);
COMMENT ON TABLE soma.slo_audit IS 'audit events that were counted, and whether a leaf of theirs was seen';
CREATE INDEX slo_audit_unsealed ON soma.slo_audit (time) WHERE NOT sealed;

GRANT SELECT, INSERT, UPDATE, DELETE ON soma.slo_hours, soma.slo_turns, soma.slo_audit TO soma_worker;
