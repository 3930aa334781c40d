-- What the trainer has read of decisions, one row each, to learn from: written by what follows the log, in whatever order
-- events come. Nothing in it says who asked, or what.
CREATE TABLE soma.samples (
    tenant         text NOT NULL,
    decision       uuid NOT NULL,
    decided_time   timestamptz,
    policy         text,
    features       real[],
    candidates     text[],
    probabilities  double precision[],
    qualities      double precision[],
    catalogue      double precision[],
    costs          bigint[],
    latencies      bigint[],
    chosen         text,
    propensity     double precision,
    answered       text,
    cost_microusd  bigint,
    first_token_ms bigint,
    said           jsonb NOT NULL DEFAULT '{}',
    score          double precision CHECK (score BETWEEN 0 AND 1),
    scored_time    timestamptz,
    PRIMARY KEY (tenant, decision)
);
COMMENT ON COLUMN soma.samples.candidates IS 'among which chance chose, as provider/model; the lists beside it are in their order';
COMMENT ON COLUMN soma.samples.catalogue IS 'what the catalogue says of their quality; qualities is what was expected by then';
COMMENT ON COLUMN soma.samples.answered IS 'the model that did, in the end';
COMMENT ON COLUMN soma.samples.said IS 'the last word of each source of feedback: [its time and id, the score]';
COMMENT ON COLUMN soma.samples.score IS 'the mean of the last words';
CREATE INDEX samples_scored ON soma.samples (tenant, decision)
    WHERE score IS NOT NULL AND answered IS NOT NULL AND features IS NOT NULL;

CREATE TABLE soma.trainings (
    tenant text PRIMARY KEY,
    news   bigint NOT NULL
);
COMMENT ON COLUMN soma.trainings.news IS 'scores that changed since the last training';

GRANT SELECT, INSERT, UPDATE, DELETE ON soma.samples, soma.trainings TO soma_worker;
