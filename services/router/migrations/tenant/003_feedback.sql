-- How good answers were: by each source and person once, the last word counts.
CREATE TABLE feedback (
    decision    uuid NOT NULL REFERENCES decisions,
    source      text NOT NULL CHECK (source IN ('person', 'judge', 'somabrain')),
    subject     text NOT NULL,
    score       double precision NOT NULL CHECK (score BETWEEN 0 AND 1),
    create_time timestamptz NOT NULL,
    update_time timestamptz NOT NULL,
    PRIMARY KEY (decision, source, subject)
);
