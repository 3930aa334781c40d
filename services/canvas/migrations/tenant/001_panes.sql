-- A canvas is a person's of a conversation. Every key says so: nobody's rows are in the way of another's.
CREATE TABLE canvases (
    conversation uuid NOT NULL,
    subject      text NOT NULL,
    revision     bigint NOT NULL,
    floor        bigint NOT NULL DEFAULT 0,
    delete_time  timestamptz,
    PRIMARY KEY (conversation, subject)
);
CREATE INDEX canvases_deleted ON canvases (delete_time) WHERE delete_time IS NOT NULL;
COMMENT ON COLUMN canvases.revision IS 'Raised by every write, under the row''s lock. What a write changes is stamped with it.';
COMMENT ON COLUMN canvases.floor IS 'What was deleted up to this revision is no longer known: a watch from before it begins anew.';
COMMENT ON COLUMN canvases.delete_time IS 'The conversation is gone. The row stays a while, for those who watch and those who come too late.';

CREATE TABLE panes (
    conversation  uuid NOT NULL,
    id            uuid NOT NULL,
    subject       text NOT NULL,
    kind          text NOT NULL CHECK (kind IN ('chat', 'code', 'html', 'log', 'image', 'table')),
    title         text NOT NULL,
    language      text NOT NULL,
    text          text NOT NULL,
    size_bytes    bigint NOT NULL,
    version       bigint NOT NULL DEFAULT 1,
    change        bigint NOT NULL DEFAULT 1,
    author        text NOT NULL CHECK (author IN ('person', 'agent')),
    turn          text NOT NULL DEFAULT '',
    writer        text NOT NULL DEFAULT '',
    named         boolean NOT NULL DEFAULT false,
    writing_until timestamptz,
    revision      bigint NOT NULL,
    create_time   timestamptz NOT NULL,
    version_time  timestamptz NOT NULL,
    update_time   timestamptz NOT NULL,
    PRIMARY KEY (conversation, subject, id),
    FOREIGN KEY (conversation, subject) REFERENCES canvases (conversation, subject) ON DELETE CASCADE
);
CREATE INDEX panes_by_revision ON panes (conversation, subject, revision);
COMMENT ON COLUMN panes.turn IS 'The turn that made the pane.';
COMMENT ON COLUMN panes.writer IS 'The turn that writes, or wrote, the newest version. Empty: a person.';
COMMENT ON COLUMN panes.named IS 'A person chose the title or the language: an answer leaves them alone.';
COMMENT ON COLUMN panes.writing_until IS 'Until when a turn is believed to write, unless it says more. Null when it finished.';

-- What panes held before. The newest version is the pane itself.
CREATE TABLE pane_versions (
    conversation uuid NOT NULL,
    subject      text NOT NULL,
    pane         uuid NOT NULL,
    version      bigint NOT NULL,
    title        text NOT NULL,
    language     text NOT NULL,
    text         text NOT NULL,
    size_bytes   bigint NOT NULL,
    author       text NOT NULL,
    create_time  timestamptz NOT NULL,
    PRIMARY KEY (conversation, subject, pane, version),
    FOREIGN KEY (conversation, subject, pane) REFERENCES panes (conversation, subject, id) ON DELETE CASCADE
);

-- Panes that were deleted, so that a watch can say so.
CREATE TABLE gone_panes (
    conversation uuid NOT NULL,
    subject      text NOT NULL,
    pane         uuid NOT NULL,
    revision     bigint NOT NULL,
    PRIMARY KEY (conversation, subject, pane),
    FOREIGN KEY (conversation, subject) REFERENCES canvases (conversation, subject) ON DELETE CASCADE
);
CREATE INDEX gone_panes_by_revision ON gone_panes (conversation, subject, revision);

CREATE TABLE layouts (
    conversation uuid NOT NULL,
    subject      text NOT NULL,
    panes        uuid[] NOT NULL,
    active       uuid,
    beside       uuid,
    change       bigint NOT NULL DEFAULT 1,
    revision     bigint NOT NULL,
    PRIMARY KEY (conversation, subject),
    FOREIGN KEY (conversation, subject) REFERENCES canvases (conversation, subject) ON DELETE CASCADE
);
