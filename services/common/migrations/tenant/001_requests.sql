-- Which requests were answered, so that a repeat gets the same answer for a day.
CREATE TABLE requests (
    subject     text NOT NULL,
    request_id  uuid NOT NULL,
    body_hash   bytea NOT NULL,
    answer      bytea,
    create_time timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (subject, request_id)
);
CREATE INDEX requests_by_age ON requests (create_time);
