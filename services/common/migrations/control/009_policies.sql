-- How each tenant's requests are routed: versions of a policy, which never change, and the one that holds. Rooms read
-- those of all tenants; a version is written in its tenant's transaction, by the router for people, by workers for what
-- they have learned. Version 0 is built in and has no row.
CREATE TABLE soma.policies (
    tenant      text NOT NULL,
    version     integer NOT NULL CHECK (version > 0),
    body        bytea NOT NULL CHECK (octet_length(body) <= 524288),
    digest      bytea NOT NULL CHECK (octet_length(digest) = 32),
    learned     bytea CHECK (octet_length(learned) = 32),
    author      text NOT NULL,
    note        text NOT NULL,
    create_time timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, version)
);
COMMENT ON COLUMN soma.policies.body IS 'soma.router.v1.Policy, without what the other columns say';
COMMENT ON COLUMN soma.policies.digest IS 'SHA-256 of the body: what differs was altered, and is not used';
COMMENT ON COLUMN soma.policies.learned IS 'the digest of the learned part';

CREATE TABLE soma.learned (
    tenant      text NOT NULL,
    digest      bytea NOT NULL CHECK (octet_length(digest) = 32),
    body        bytea NOT NULL CHECK (octet_length(body) <= 67108864),
    create_time timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, digest)
);
COMMENT ON COLUMN soma.learned.digest IS 'SHA-256 of the body';

CREATE TABLE soma.active_policies (
    tenant  text PRIMARY KEY,
    version integer NOT NULL,
    before  integer[] NOT NULL DEFAULT '{}',
    change  bigint NOT NULL,
    written xid8 NOT NULL
);
COMMENT ON COLUMN soma.active_policies.before IS 'what held before, the last one last';
COMMENT ON COLUMN soma.active_policies.change IS 'rises with each change of the tenant''s';
COMMENT ON COLUMN soma.active_policies.written IS
    'the transaction: who looks from the oldest that still ran at the last look on misses none, however late it commits';
CREATE INDEX active_policies_by_writing ON soma.active_policies (written);

-- API keys. A key is kept as its hash alone.
CREATE TABLE soma.keys (
    id               uuid PRIMARY KEY,
    tenant           text NOT NULL,
    hash             bytea NOT NULL UNIQUE CHECK (octet_length(hash) = 32),
    person           text NOT NULL,
    team             text NOT NULL,
    models           text[] NOT NULL,
    budget_microusd  bigint,
    title            text NOT NULL,
    hint             text NOT NULL,
    create_time      timestamptz NOT NULL,
    expire_time      timestamptz,
    revoke_time      timestamptz
);
COMMENT ON COLUMN soma.keys.hash IS 'SHA-256 of the whole secret, which has 256 random bits';
COMMENT ON COLUMN soma.keys.hint IS 'how the secret begins';
CREATE INDEX keys_of_tenant ON soma.keys (tenant, id);

GRANT SELECT, INSERT ON soma.policies, soma.learned TO soma_tenant;
GRANT SELECT, INSERT, UPDATE ON soma.active_policies TO soma_tenant;
GRANT SELECT, INSERT, UPDATE (revoke_time) ON soma.keys TO soma_tenant;
GRANT SELECT ON soma.policies, soma.learned, soma.active_policies TO soma_room;

-- Any room can become any tenant: of the rooms, only the router writes here, and workers.
CREATE FUNCTION soma.may_govern() RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT session_user IN ('soma_router', 'soma_workers')
$$;

DO $$
DECLARE governed text;
BEGIN
    FOREACH governed IN ARRAY ARRAY['policies', 'learned', 'active_policies', 'keys'] LOOP
        EXECUTE format('ALTER TABLE soma.%I ENABLE ROW LEVEL SECURITY', governed);
        EXECUTE format('CREATE POLICY own_tenant ON soma.%I TO soma_tenant'
                       ' USING (''t_'' || tenant = current_user AND soma.may_govern())'
                       ' WITH CHECK (''t_'' || tenant = current_user AND soma.may_govern())', governed);
        CONTINUE WHEN governed = 'keys';
        EXECUTE format('CREATE POLICY rooms_look ON soma.%I FOR SELECT TO soma_room USING (true)', governed);
    END LOOP;
END $$;

-- Whose key it is. The router asks, for whoever shows it the whole secret, before any tenant is known.
CREATE FUNCTION soma.key_with(secret_hash bytea) RETURNS SETOF soma.keys
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = '' AS $$
BEGIN
    IF session_user <> 'soma_router' THEN
        RAISE insufficient_privilege USING MESSAGE = format('%s may not ask whose key it is', session_user);
    END IF;
    RETURN QUERY SELECT * FROM soma.keys k WHERE k.hash = secret_hash;
END $$;
REVOKE ALL ON FUNCTION soma.key_with FROM PUBLIC;
GRANT EXECUTE ON FUNCTION soma.key_with TO soma_room;
