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

-- Nobody but the administrator reads the table. A room gets one key at a time, of a person whom it can name, in the
-- tenant that its transaction is in. By a pseudonym, which is in every event, keys are for workers, and in its own
-- tenant's transaction for the console, which tells administrators who it was. Postgres cannot know whom a room serves:
-- a room that was taken over can name each person that it has heard of.
CREATE FUNCTION soma.tenant_at_work() RETURNS text LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN starts_with(current_setting('role'), 't_') THEN substr(current_setting('role'), 3) END
$$;

CREATE FUNCTION soma.key_of(who text, OUT wrapped bytea, OUT is_first boolean)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = '' AS $$
    SELECT (SELECT s.wrapped FROM soma.subjects s WHERE s.tenant = soma.tenant_at_work() AND s.subject = who),
           NOT EXISTS (SELECT FROM soma.subjects s WHERE s.tenant = soma.tenant_at_work() AND s.subject IS NOT NULL)
$$;
COMMENT ON FUNCTION soma.key_of IS 'The person''s key, and whether the tenant has none at all yet.';

CREATE FUNCTION soma.keep_key(who text, alias text, wrapped bytea) RETURNS boolean
LANGUAGE sql SECURITY DEFINER SET search_path = '' AS $$
    INSERT INTO soma.subjects (tenant, pseudonym, subject, wrapped) VALUES (soma.tenant_at_work(), alias, who, wrapped)
    ON CONFLICT (tenant, subject) WHERE subject IS NOT NULL DO NOTHING RETURNING true
$$;
COMMENT ON FUNCTION soma.keep_key IS 'Null when somebody else was first: it waits for who is about to be.';

CREATE FUNCTION soma.key_under(whose text, alias text) RETURNS bytea
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = '' AS $$
BEGIN
    IF NOT (pg_has_role(session_user, 'soma_worker', 'MEMBER')
            OR (session_user = 'soma_console' AND whose IS NOT DISTINCT FROM soma.tenant_at_work())) THEN
        RAISE insufficient_privilege USING MESSAGE = format('%s may not open what people of %s wrote', session_user, whose);
    END IF;
    RETURN (SELECT s.wrapped FROM soma.subjects s WHERE s.tenant = whose AND s.pseudonym = alias);
END $$;
COMMENT ON FUNCTION soma.key_under IS 'Null when the person was forgotten.';

REVOKE ALL ON FUNCTION soma.key_of, soma.keep_key, soma.key_under FROM PUBLIC;
GRANT EXECUTE ON FUNCTION soma.key_of, soma.keep_key, soma.key_under TO soma_tenant;
GRANT EXECUTE ON FUNCTION soma.key_under TO soma_worker;
