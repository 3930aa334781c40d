-- A key for each person of a tenant, wrapped by the tenant's. What they wrote travels sealed with it, and their events
-- carry its pseudonym instead of their name: forgetting the key forgets both, everywhere.
CREATE TABLE soma.subjects (
    tenant      text NOT NULL,
    pseudonym   text NOT NULL,
    subject     text,
    wrapped     bytea,
    create_time timestamptz NOT NULL DEFAULT now(),
    forget_time timestamptz,
    PRIMARY KEY (tenant, pseudonym),
    CHECK ((forget_time IS NULL) = (subject IS NOT NULL) AND (subject IS NULL) = (wrapped IS NULL))
);
CREATE UNIQUE INDEX one_key_a_subject ON soma.subjects (tenant, subject) WHERE subject IS NOT NULL;
ALTER TABLE soma.subjects ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_tenant ON soma.subjects TO soma_tenant
    USING ('t_' || tenant = current_user) WITH CHECK ('t_' || tenant = current_user);
CREATE POLICY workers ON soma.subjects FOR SELECT TO soma_worker USING (true);
GRANT SELECT, INSERT ON soma.subjects TO soma_tenant;
GRANT SELECT ON soma.subjects TO soma_worker;
