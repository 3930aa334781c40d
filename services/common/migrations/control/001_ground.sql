-- What all tenants share. Tenants' own tables live in schema t_<tenant>, written under role t_<tenant>.
CREATE SCHEMA ext;

CREATE ROLE soma_tenant NOLOGIN;
CREATE ROLE soma_room NOLOGIN;
GRANT USAGE ON SCHEMA soma, ext TO soma_tenant, soma_room;

CREATE TABLE soma.tenants (
    name        text PRIMARY KEY CHECK (name ~ '^[a-z][a-z0-9_]{1,39}$'),
    create_time timestamptz NOT NULL DEFAULT now()
);
GRANT SELECT ON soma.tenants TO soma_room;

-- Events wait here for the relay: written in the transaction that they tell of.
CREATE TABLE soma.outbox (
    id          uuid PRIMARY KEY,
    tenant      text NOT NULL,
    topic       text NOT NULL,
    key         text NOT NULL,
    type        text NOT NULL,
    body        jsonb NOT NULL,
    traceparent text NOT NULL DEFAULT '',
    create_time timestamptz NOT NULL DEFAULT now()
);
ALTER TABLE soma.outbox ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_tenant ON soma.outbox FOR INSERT TO soma_tenant WITH CHECK ('t_' || tenant = current_user);
GRANT INSERT ON soma.outbox TO soma_tenant;

CREATE TABLE soma.audit (
    id          uuid PRIMARY KEY,
    tenant      text NOT NULL,
    action      text NOT NULL,
    body        jsonb NOT NULL,
    create_time timestamptz NOT NULL DEFAULT now()
);
ALTER TABLE soma.audit ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_tenant ON soma.audit FOR INSERT TO soma_tenant WITH CHECK ('t_' || tenant = current_user);
GRANT INSERT ON soma.audit TO soma_tenant;

-- Who is at work on what, until when. Whoever finds one expired may end the work.
CREATE TABLE soma.leases (
    tenant      text NOT NULL,
    resource    text NOT NULL,
    holder      text NOT NULL,
    expire_time timestamptz NOT NULL,
    PRIMARY KEY (tenant, resource)
);
CREATE INDEX leases_by_expiry ON soma.leases (expire_time);
ALTER TABLE soma.leases ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_tenant ON soma.leases TO soma_tenant
    USING ('t_' || tenant = current_user) WITH CHECK ('t_' || tenant = current_user);
CREATE POLICY rooms_look ON soma.leases FOR SELECT TO soma_room USING (true);
GRANT SELECT, INSERT, UPDATE, DELETE ON soma.leases TO soma_tenant;
GRANT SELECT ON soma.leases TO soma_room;

-- make_room gives a room its login: it may become any tenant for a transaction, and inherits nothing from them.
CREATE FUNCTION soma.make_room(room text, password text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE login text := 'soma_' || room; tenant text;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = login) THEN
        EXECUTE format('CREATE ROLE %I LOGIN NOINHERIT', login);
        EXECUTE format('GRANT soma_room TO %I WITH INHERIT TRUE', login);
    END IF;
    EXECUTE format('ALTER ROLE %I PASSWORD %L', login, password);
    FOR tenant IN SELECT name FROM soma.tenants LOOP
        EXECUTE format('GRANT %I TO %I WITH INHERIT FALSE, SET TRUE', 't_' || tenant, login);
    END LOOP;
END $$;

-- make_tenant gives a tenant its role and its empty schema. Its tables come with the tenant migrations.
CREATE FUNCTION soma.make_tenant(tenant text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE own text := 't_' || tenant; login text;
BEGIN
    INSERT INTO soma.tenants (name) VALUES (tenant) ON CONFLICT DO NOTHING;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = own) THEN
        EXECUTE format('CREATE ROLE %I NOLOGIN', own);
        EXECUTE format('GRANT soma_tenant TO %I WITH INHERIT TRUE', own);
    END IF;
    EXECUTE format('CREATE SCHEMA IF NOT EXISTS %I', own);
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I', own, own);
    EXECUTE format('ALTER DEFAULT PRIVILEGES IN SCHEMA %I GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO %I', own, own);
    FOR login IN SELECT m.rolname FROM pg_roles m WHERE m.rolcanlogin AND pg_has_role(m.oid, 'soma_room', 'MEMBER')
                 AND NOT m.rolsuper LOOP
        EXECUTE format('GRANT %I TO %I WITH INHERIT FALSE, SET TRUE', own, login);
    END LOOP;
END $$;
