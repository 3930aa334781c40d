CREATE TABLE conversations (
    id          uuid PRIMARY KEY,
    subject     text NOT NULL,
    title       text NOT NULL,
    revision    bigint NOT NULL DEFAULT 1,
    create_time timestamptz NOT NULL,
    update_time timestamptz NOT NULL
);
CREATE INDEX conversations_of_person ON conversations (subject, id DESC);

CREATE TABLE turns (
    id             uuid PRIMARY KEY,
    conversation   uuid NOT NULL REFERENCES conversations (id) ON DELETE CASCADE,
    subject        text NOT NULL,
    state          text NOT NULL CHECK (state IN ('running', 'done', 'failed', 'cancelled')),
    question       text NOT NULL,
    answer         text NOT NULL DEFAULT '',
    tier           text NOT NULL,
    decision       bytea,
    usage          bytea,
    cost_microusd  bigint NOT NULL DEFAULT 0,
    finish_reason  text NOT NULL DEFAULT '',
    error          bytea,
    first_token_ms bigint NOT NULL DEFAULT 0,
    last_sequence  bigint NOT NULL DEFAULT 0,
    events         bytea,
    cancel         boolean NOT NULL DEFAULT false,
    create_time    timestamptz NOT NULL,
    end_time       timestamptz
);
CREATE INDEX turns_of_conversation ON turns (conversation, id DESC);
CREATE UNIQUE INDEX one_turn_at_a_time ON turns (conversation) WHERE state = 'running';
COMMENT ON COLUMN turns.events IS 'Of a running turn those of the last checkpoint, of an ended one all: a soma.agent.v1.Transcript.';
