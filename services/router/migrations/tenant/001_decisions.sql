-- Which model answered what, why, and what it cost. Written when decided, completed when settled.
CREATE TABLE decisions (
    id             uuid PRIMARY KEY,
    subject        text NOT NULL,
    turn           text NOT NULL,
    requested_tier text NOT NULL CHECK (requested_tier IN ('premium', 'standard', 'slm')),
    provider       text NOT NULL,
    model          text NOT NULL,
    tier           text NOT NULL CHECK (tier IN ('premium', 'standard', 'slm')),
    decision       bytea NOT NULL,
    create_time    timestamptz NOT NULL,
    input_tokens   bigint,
    output_tokens  bigint,
    estimated      boolean,
    cost_microusd  bigint,
    first_token_ms bigint,
    finish_reason  text,
    reason         text,
    settle_time    timestamptz
);
CREATE INDEX decisions_by_turn ON decisions (turn);
CREATE INDEX decisions_unsettled ON decisions (create_time) WHERE settle_time IS NULL;
