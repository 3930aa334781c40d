-- The audit trail of each tenant, sealed: rows in the order of the tree, which is never changed. Nobody is granted more
-- than to add to it. docs/audit-format.md says what the columns of hashes are.
CREATE TABLE soma.audit (
    tenant    text NOT NULL,
    index     bigint NOT NULL CHECK (index >= 0),
    id        uuid NOT NULL,
    canonical bytea NOT NULL,
    leaf      bytea NOT NULL CHECK (octet_length(leaf) = 32),
    chain     bytea NOT NULL CHECK (octet_length(chain) = 64),
    time      timestamptz NOT NULL,
    action    text NOT NULL,
    subject   text NOT NULL,
    resource  text,
    outcome   text NOT NULL,
    PRIMARY KEY (tenant, index),
    UNIQUE (id, tenant)
);
COMMENT ON COLUMN soma.audit.index IS 'the leaf''s place in the tree, from 0, without gaps';
COMMENT ON COLUMN soma.audit.canonical IS 'the event, RFC 8785 JSON; the columns from time on repeat parts of it, to look by';
CREATE INDEX audit_by_time ON soma.audit (tenant, time);
CREATE INDEX audit_by_action ON soma.audit (tenant, action, index);
CREATE INDEX audit_by_subject ON soma.audit (tenant, subject, index);
CREATE INDEX audit_by_resource ON soma.audit (tenant, resource, index) WHERE resource IS NOT NULL;
CREATE INDEX audit_refused ON soma.audit (tenant, index) WHERE outcome <> 'done';

-- Hashes of complete subtrees at every fourth level above the leaves: what lies between is hashed together from 15 or
-- fewer of the level below, so that a proof in a trail of millions reads some 90 rows.
CREATE TABLE soma.audit_hashes (
    tenant text NOT NULL,
    level  smallint NOT NULL CHECK (level > 0 AND level % 4 = 0),
    index  bigint NOT NULL CHECK (index >= 0),
    hash   bytea NOT NULL CHECK (octet_length(hash) = 32),
    PRIMARY KEY (tenant, level, index)
);

-- Where each tree stands. Whoever holds the row's lock is the one who appends.
CREATE TABLE soma.audit_trees (
    tenant text PRIMARY KEY,
    size   bigint NOT NULL,
    edge   bytea NOT NULL,
    chain  bytea NOT NULL CHECK (octet_length(chain) = 64)
);
COMMENT ON COLUMN soma.audit_trees.edge IS 'hashes of the complete subtrees that make up the tree, the largest first';

CREATE TABLE soma.audit_keys (
    tenant     text NOT NULL,
    number     integer NOT NULL CHECK (number > 0),
    name       text NOT NULL,
    key_id     bytea NOT NULL CHECK (octet_length(key_id) = 4),
    public     bytea NOT NULL CHECK (octet_length(public) = 32),
    first_size bigint NOT NULL,
    time       timestamptz NOT NULL,
    PRIMARY KEY (tenant, number)
);
COMMENT ON COLUMN soma.audit_keys.first_size IS 'it signs the heads from this size on, up to the next key''s first, which both sign';

CREATE TABLE soma.tree_heads (
    tenant     text NOT NULL,
    size       bigint NOT NULL CHECK (size > 0),
    root       bytea NOT NULL CHECK (octet_length(root) = 32),
    checkpoint text NOT NULL,
    key_name   text NOT NULL,
    key_id     bytea NOT NULL,
    time       timestamptz NOT NULL,
    PRIMARY KEY (tenant, size)
);
COMMENT ON COLUMN soma.tree_heads.checkpoint IS 'the signed note (C2SP), whole';

GRANT SELECT, INSERT ON soma.audit, soma.audit_hashes, soma.audit_keys, soma.tree_heads TO soma_worker;
GRANT SELECT, INSERT, UPDATE ON soma.audit_trees TO soma_worker;
-- Of the rooms, the console alone reads a trail, and that of the tenant it serves.
GRANT SELECT ON soma.audit, soma.audit_hashes, soma.audit_keys, soma.tree_heads TO soma_tenant;

DO $$
DECLARE sealed text;
BEGIN
    FOREACH sealed IN ARRAY ARRAY['audit', 'audit_hashes', 'audit_trees', 'audit_keys', 'tree_heads'] LOOP
        EXECUTE format('ALTER TABLE soma.%I ENABLE ROW LEVEL SECURITY', sealed);
        EXECUTE format('CREATE POLICY workers ON soma.%I TO soma_worker USING (true) WITH CHECK (true)', sealed);
        EXECUTE format('CREATE POLICY own_tenant ON soma.%I FOR SELECT TO soma_tenant'
                       ' USING (''t_'' || tenant = current_user AND session_user = ''soma_console'')', sealed);
    END LOOP;
END $$;
