-- Budgets, and the ledger that they rest on. What is written here is written by soma.book alone, under the ledger lock of
-- the tenant, by Postgres' own clock: nothing that a room's clock or memory says can lead to more than a cap allows.
CREATE TABLE soma.budgets (
    tenant             text NOT NULL,
    id                 uuid NOT NULL,
    scope              text NOT NULL CHECK (scope IN ('tenant', 'team', 'user', 'conversation', 'task', 'key')),
    whose              text NOT NULL CHECK ((scope = 'tenant') = (whose = '')),
    period             text NOT NULL CHECK (period IN ('hour', 'day', 'month', 'total')),
    rolling            boolean NOT NULL CHECK (NOT rolling OR period <> 'total'),
    tier               text NOT NULL CHECK (tier IN ('', 'premium', 'standard', 'slm')),
    microusd           bigint CHECK (microusd >= 0),
    tokens             bigint CHECK (tokens >= 0),
    requests           bigint CHECK (requests >= 0),
    override_microusd  bigint CHECK (override_microusd >= 0),
    override_tokens    bigint CHECK (override_tokens >= 0),
    override_requests  bigint CHECK (override_requests >= 0),
    override_end_time  timestamptz,
    override_reason    text NOT NULL DEFAULT '',
    version            bigint NOT NULL DEFAULT 1,
    create_time        timestamptz NOT NULL DEFAULT now(),
    update_time        timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, id),
    UNIQUE (tenant, scope, whose, period, tier)
);
COMMENT ON COLUMN soma.budgets.whose IS 'empty for the tenant; * for each one that has no budget of its own for that period and tier';
COMMENT ON COLUMN soma.budgets.microusd IS 'the limit, as tokens and requests are; null for no bound';

-- The ledger lock: whoever holds the tenant's row admits and settles.
CREATE TABLE soma.ledgers (
    tenant     text PRIMARY KEY,
    sweep_time timestamptz NOT NULL DEFAULT 'infinity'
);
COMMENT ON COLUMN soma.ledgers.sweep_time IS 'before it no hold expires';

-- What is counted of a budget for one of those whom it bounds. Made when first needed, from the ledger and the holds.
CREATE TABLE soma.accounts (
    tenant        text NOT NULL,
    budget        uuid NOT NULL,
    whose         text NOT NULL,
    held_microusd bigint NOT NULL CHECK (held_microusd >= 0),
    held_tokens   bigint NOT NULL CHECK (held_tokens >= 0),
    held_requests bigint NOT NULL CHECK (held_requests >= 0),
    PRIMARY KEY (tenant, budget, whose),
    FOREIGN KEY (tenant, budget) REFERENCES soma.budgets ON DELETE CASCADE
) WITH (fillfactor = 50);

CREATE TABLE soma.budget_spend (
    tenant   text NOT NULL,
    budget   uuid NOT NULL,
    whose    text NOT NULL,
    bucket   timestamptz NOT NULL,
    microusd bigint NOT NULL CHECK (microusd >= 0),
    tokens   bigint NOT NULL CHECK (tokens >= 0),
    requests bigint NOT NULL CHECK (requests >= 0),
    PRIMARY KEY (tenant, budget, whose, bucket),
    FOREIGN KEY (tenant, budget, whose) REFERENCES soma.accounts ON DELETE CASCADE
) WITH (fillfactor = 50);
COMMENT ON COLUMN soma.budget_spend.bucket IS 'the window by the calendar in UTC; of a rolling one a sixtieth; -infinity of a total';

-- What running calls may cost at most. One that nobody renews is over at its expire_time.
CREATE TABLE soma.holds (
    tenant       text NOT NULL,
    call_id      uuid NOT NULL,
    subject      text NOT NULL,
    team         text NOT NULL,
    conversation text NOT NULL,
    task         text NOT NULL,
    key          text NOT NULL,
    provider     text NOT NULL,
    model        text NOT NULL,
    tier         text NOT NULL,
    microusd     bigint NOT NULL CHECK (microusd >= 0),
    tokens       bigint NOT NULL CHECK (tokens >= 0),
    requests     bigint NOT NULL CHECK (requests >= 0),
    expire_time  timestamptz NOT NULL,
    PRIMARY KEY (tenant, call_id)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000,
        autovacuum_vacuum_cost_delay = 0);

-- Only ever added to. A call has a hold, and then a settle, or a release when nothing was spent. An expire says that no
-- router was seen to end it in time; a late settle takes back what it says was lost.
CREATE TABLE soma.ledger (
    tenant           text NOT NULL,
    call_id          uuid NOT NULL,
    kind             text NOT NULL CHECK (kind IN ('hold', 'settle', 'release', 'expire')),
    time             timestamptz NOT NULL,
    subject          text NOT NULL,
    team             text NOT NULL,
    conversation     text NOT NULL,
    task             text NOT NULL,
    key              text NOT NULL,
    provider         text NOT NULL,
    model            text NOT NULL,
    tier             text NOT NULL,
    microusd         bigint NOT NULL DEFAULT 0,
    tokens           bigint NOT NULL DEFAULT 0,
    requests         bigint NOT NULL DEFAULT 0,
    overrun_microusd bigint NOT NULL DEFAULT 0,
    overrun_tokens   bigint NOT NULL DEFAULT 0,
    lost_microusd    bigint NOT NULL DEFAULT 0,
    input_tokens     bigint NOT NULL DEFAULT 0,
    output_tokens    bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant, call_id, kind)
);
COMMENT ON COLUMN soma.ledger.microusd IS 'held, or settled and counted by budgets, as tokens and requests are';
COMMENT ON COLUMN soma.ledger.overrun_microusd IS 'billed beyond what was held, and fitting no budget';
CREATE INDEX ledger_by_time ON soma.ledger (tenant, time) WHERE kind <> 'hold';
CREATE INDEX ledger_by_subject ON soma.ledger (tenant, subject, time) WHERE kind = 'settle';
CREATE INDEX ledger_by_team ON soma.ledger (tenant, team, time) WHERE kind = 'settle' AND team <> '';
CREATE INDEX ledger_by_conversation ON soma.ledger (tenant, conversation, time) WHERE kind = 'settle' AND conversation <> '';
CREATE INDEX ledger_by_task ON soma.ledger (tenant, task, time) WHERE kind = 'settle' AND task <> '';
CREATE INDEX ledger_by_key ON soma.ledger (tenant, key, time) WHERE kind = 'settle' AND key <> '';

DO $$
DECLARE one text;
BEGIN
    FOREACH one IN ARRAY ARRAY['budgets', 'ledgers', 'accounts', 'budget_spend', 'holds', 'ledger'] LOOP
        EXECUTE format('ALTER TABLE soma.%I ENABLE ROW LEVEL SECURITY', one);
        EXECUTE format('CREATE POLICY own_tenant ON soma.%I FOR SELECT TO soma_tenant'
                       ' USING (''t_'' || tenant = current_user)', one);
        EXECUTE format('GRANT SELECT ON soma.%I TO soma_tenant', one);
    END LOOP;
END $$;
-- Of the rooms, the router alone changes budgets.
CREATE POLICY router_changes ON soma.budgets TO soma_tenant
    USING ('t_' || tenant = current_user AND session_user = 'soma_router')
    WITH CHECK ('t_' || tenant = current_user AND session_user = 'soma_router');
GRANT INSERT, UPDATE, DELETE ON soma.budgets TO soma_tenant;
-- A router finds out which tenants have holds that nobody renews, to have them swept.
CREATE POLICY rooms_look ON soma.ledgers FOR SELECT TO soma_room USING (true);
GRANT SELECT ON soma.ledgers TO soma_room;
