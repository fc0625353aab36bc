-- Batches: many recordings in one call, each of which becomes a session.


CREATE TABLE batches (
    id                uuid        NOT NULL,
    user_id           uuid,
    priority          smallint    NOT NULL DEFAULT 1,
    options           jsonb       NOT NULL,
    prefix            text,
    items_total       integer     NOT NULL DEFAULT 0,
    next_item         integer     NOT NULL DEFAULT 0,
    created_at        timestamptz NOT NULL DEFAULT now(),
    finished_at       timestamptz,
    problem           jsonb,
    state             text        NOT NULL,
    attempt           smallint    NOT NULL DEFAULT 0,
    due_at            timestamptz NOT NULL DEFAULT now(),
    nudged_at         timestamptz NOT NULL DEFAULT now(),
    last_error        text,
    uncounted         smallint    NOT NULL DEFAULT 0,
    waits_for_storage boolean     NOT NULL DEFAULT false,
    traceparent       text,

    CONSTRAINT pk_batches PRIMARY KEY (id),
    CONSTRAINT ck_batches_items CHECK (next_item BETWEEN 0 AND items_total),
    CONSTRAINT ck_batches_priority CHECK (priority IN (0, 1, 2)),
    CONSTRAINT ck_batches_state
        CHECK (state IN ('receiving', 'listing', 'expanding', 'taken', 'failed', 'cancelled')),
    CONSTRAINT fk_batches_user_id FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE SET NULL
);

COMMENT ON TABLE batches IS 'Recordings that were uploaded or named in one call.';
COMMENT ON COLUMN batches.id IS 'The batch''s ID, given by the client or made for the request.';
COMMENT ON COLUMN batches.user_id IS
    'The user that the row belongs to; null without one, or if the user was removed.';
COMMENT ON COLUMN batches.priority IS 'The priority of its sessions: 0 is high, 1 normal, 2 low.';
COMMENT ON COLUMN batches.options IS 'The options of its sessions, besides the priority.';
COMMENT ON COLUMN batches.prefix IS
    'The prefix of its objects; null if each was uploaded or named.';
COMMENT ON COLUMN batches.items_total IS 'The number of its recordings so far.';
COMMENT ON COLUMN batches.next_item IS 'The first item without an outcome.';
COMMENT ON COLUMN batches.created_at IS 'When it was requested.';
COMMENT ON COLUMN batches.finished_at IS
    'When the last item got its outcome, or the batch was cancelled.';
COMMENT ON COLUMN batches.problem IS 'Why further recordings were not taken; null if all were.';
COMMENT ON COLUMN batches.state IS 'The state; the check constraint has the possible ones.';
COMMENT ON COLUMN batches.attempt IS
    'The number of claims: the fence, since a result is written only for the claim with this '
    'number.';
COMMENT ON COLUMN batches.due_at IS
    'When the row may be claimed next: the end of the lease, or the time of the next try.';
COMMENT ON COLUMN batches.nudged_at IS 'When a message about the row was last sent.';
COMMENT ON COLUMN batches.last_error IS 'Why the last try failed; null if none did.';
COMMENT ON COLUMN batches.uncounted IS
    'Claims that do not count against CLAMOR_MAX_ATTEMPTS: those that ended because a store of '
    'the installation failed, or because the worker lacked the session''s backbone, and those '
    'before a requested retry.';
COMMENT ON COLUMN batches.waits_for_storage IS
    'Whether the latest claim ended for want of storage and no other has followed.';
COMMENT ON COLUMN batches.traceparent IS
    'The traceparent (W3C Trace Context) of the request that created the row; null without '
    'tracing.';

-- queue_queries.take_stalled, backlogs
CREATE INDEX ix_batches_unfinished
    ON batches (due_at) WHERE state IN ('receiving', 'listing', 'expanding');

-- list_queries.batches
CREATE INDEX ix_batches_user_created ON batches (user_id, created_at, id);


CREATE TABLE batch_items (
    batch_id    uuid        NOT NULL,
    item_index  integer     NOT NULL,
    file_name   text        NOT NULL,
    source_key  text,
    recorded_at timestamptz,
    outcome     text,
    reason      text,
    session_id  uuid,

    CONSTRAINT pk_batch_items PRIMARY KEY (batch_id, item_index),
    CONSTRAINT uq_batch_items_session_id UNIQUE (session_id),
    CONSTRAINT ck_batch_items_outcome CHECK (outcome IN ('taken', 'refused')),
    CONSTRAINT ck_batch_items_reason CHECK ((outcome = 'refused') = (reason IS NOT NULL)),
    CONSTRAINT fk_batch_items_batch_id
        FOREIGN KEY (batch_id) REFERENCES batches (id) ON DELETE CASCADE,
    CONSTRAINT fk_batch_items_session_id
        FOREIGN KEY (session_id) REFERENCES audio_sessions (id) ON DELETE SET NULL
);

COMMENT ON TABLE batch_items IS
    'One recording of a batch: its session, or the reason why there is none.';
COMMENT ON COLUMN batch_items.batch_id IS 'The batch.';
COMMENT ON COLUMN batch_items.item_index IS
    '0, 1, 2, ... in the order in which the recordings were uploaded or named.';
COMMENT ON COLUMN batch_items.file_name IS
    'The client''s name for the file: shown, never used as a path.';
COMMENT ON COLUMN batch_items.source_key IS
    'The object that the recording is copied from; null if it was uploaded.';
COMMENT ON COLUMN batch_items.recorded_at IS 'When the recording began, as given by the caller.';
COMMENT ON COLUMN batch_items.outcome IS 'Whether a session was created; null until decided.';
COMMENT ON COLUMN batch_items.reason IS 'Why there is no session; null unless it was refused.';
COMMENT ON COLUMN batch_items.session_id IS 'The session; null without one, or if it was removed.';


ALTER TABLE audio_sessions
    ADD CONSTRAINT fk_audio_sessions_batch_id FOREIGN KEY (batch_id) REFERENCES batches (id);
