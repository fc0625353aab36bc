-- The work on sessions: one row for each that has not ended, whose turn it is, and what is to be
-- removed after the end.


CREATE TABLE unfinished_sessions (
    session_id         uuid             NOT NULL,
    batch_id           uuid,
    priority           smallint         NOT NULL DEFAULT 1,
    lane               uuid             NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    created_at         timestamptz      NOT NULL DEFAULT now(),
    started_at         timestamptz,
    state              text             NOT NULL,
    attempt            smallint         NOT NULL DEFAULT 0,
    due_at             timestamptz      NOT NULL DEFAULT now(),
    nudged_at          timestamptz      NOT NULL DEFAULT now(),
    last_error         text,
    uncounted          smallint         NOT NULL DEFAULT 0,
    waits_for_storage  boolean          NOT NULL DEFAULT false,
    stage_share        double precision NOT NULL DEFAULT 0,
    stage_since        timestamptz,
    stage_told_at      timestamptz,
    spans_finished     integer          NOT NULL DEFAULT 0,
    resplits           smallint         NOT NULL DEFAULT 0,
    first_claim        smallint         NOT NULL DEFAULT 0,
    reserved_s         double precision NOT NULL DEFAULT 0,
    backbone_missed_at timestamptz,

    CONSTRAINT pk_unfinished_sessions PRIMARY KEY (session_id),
    CONSTRAINT ck_unfinished_sessions_priority CHECK (priority IN (0, 1, 2)),
    CONSTRAINT ck_unfinished_sessions_stage_share CHECK (stage_share BETWEEN 0 AND 1),
    CONSTRAINT ck_unfinished_sessions_state
        CHECK (state IN ('queued', 'splitting', 'detecting', 'aggregating')),
    CONSTRAINT fk_unfinished_sessions_session_id
        FOREIGN KEY (session_id) REFERENCES audio_sessions (id) ON DELETE CASCADE
) WITH (fillfactor = 50);

COMMENT ON TABLE unfinished_sessions IS
    'The work on a session: its place in the order of claims, its claim and its progress.';
COMMENT ON COLUMN unfinished_sessions.session_id IS 'The session.';
COMMENT ON COLUMN unfinished_sessions.batch_id IS 'The session''s batch; null without one.';
COMMENT ON COLUMN unfinished_sessions.priority IS
    'The session''s priority: 0 is high, 1 normal, 2 low.';
COMMENT ON COLUMN unfinished_sessions.lane IS
    'Its lane in the fair order: the user, else the batch, else zero.';
COMMENT ON COLUMN unfinished_sessions.created_at IS 'When the session was posted.';
COMMENT ON COLUMN unfinished_sessions.started_at IS 'When a worker first claimed the session.';
COMMENT ON COLUMN unfinished_sessions.state IS
    'The state; the check constraint has the possible ones.';
COMMENT ON COLUMN unfinished_sessions.attempt IS
    'The number of claims: the fence, since a result is written only for the claim with this '
    'number.';
COMMENT ON COLUMN unfinished_sessions.due_at IS
    'When the row may be claimed next: the end of the lease, or the time of the next try.';
COMMENT ON COLUMN unfinished_sessions.nudged_at IS 'When a message about the row was last sent.';
COMMENT ON COLUMN unfinished_sessions.last_error IS 'Why the last try failed; null if none did.';
COMMENT ON COLUMN unfinished_sessions.uncounted IS
    'Claims that do not count against CLAMOR_MAX_ATTEMPTS: those that ended because a store of '
    'the installation failed, or because the worker lacked the session''s backbone, and those '
    'before a requested retry.';
COMMENT ON COLUMN unfinished_sessions.waits_for_storage IS
    'Whether the latest claim ended for want of storage and no other has followed.';
COMMENT ON COLUMN unfinished_sessions.stage_share IS
    'The share of the current stage that is done, for stages without spans; while queued, that of '
    'all work, done in one claim. It never falls: in a second attempt it does not change until that '
    'has passed the first.';
COMMENT ON COLUMN unfinished_sessions.stage_since IS 'When a worker first claimed the stage.';
COMMENT ON COLUMN unfinished_sessions.stage_told_at IS 'When the stage''s share last grew.';
COMMENT ON COLUMN unfinished_sessions.spans_finished IS
    'The number of its spans that are done or failed. The transaction that reaches the session''s '
    'total ends the stage.';
COMMENT ON COLUMN unfinished_sessions.resplits IS
    'How often it was decoded again because decoded audio was missing. Attempts restart each '
    'time, so this is part of every fence and of the keys of products.';
COMMENT ON COLUMN unfinished_sessions.first_claim IS
    'The start of the claim numbers of each stage; a requested retry raises it above all earlier '
    'claims.';
COMMENT ON COLUMN unfinished_sessions.reserved_s IS
    'Seconds of its user''s monthly audio that are reserved until it is split and counted: what its '
    'header or its size promises.';
COMMENT ON COLUMN unfinished_sessions.backbone_missed_at IS
    'When it began to wait for a worker that has its backbone; null if it does not.';

-- list_queries.batches; batch_queries.cancel_batch
CREATE INDEX ix_unfinished_sessions_batch
    ON unfinished_sessions (batch_id) WHERE batch_id IS NOT NULL;

-- fair_order.next_session, next_span: the next session of a lane;
-- queue_queries.take_stalled, backlogs, count_unfinished
CREATE INDEX ix_unfinished_sessions_turn
    ON unfinished_sessions (state, priority, lane, created_at, session_id);


CREATE TABLE turns (
    state    text     NOT NULL,
    priority smallint NOT NULL,
    lane     uuid     NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',

    CONSTRAINT pk_turns PRIMARY KEY (state, priority)
);

COMMENT ON TABLE turns IS 'The lane served last, for each state and priority of sessions.';
COMMENT ON COLUMN turns.state IS 'The state of the sessions.';
COMMENT ON COLUMN turns.priority IS 'The priority of the sessions: 0 is high, 1 normal, 2 low.';
COMMENT ON COLUMN turns.lane IS 'The lane that was served last.';

-- A row for each unfinished state and priority.
INSERT INTO turns (state, priority)
SELECT state, priority
FROM unnest(ARRAY['queued', 'splitting', 'detecting', 'aggregating']) AS state,
     generate_series(0, 2) AS priority;


CREATE TABLE session_leftovers (
    session_id  uuid        NOT NULL,
    finished_at timestamptz NOT NULL DEFAULT now(),
    at_once     boolean     NOT NULL DEFAULT false,

    CONSTRAINT pk_session_leftovers PRIMARY KEY (session_id),
    CONSTRAINT fk_session_leftovers_session_id
        FOREIGN KEY (session_id) REFERENCES audio_sessions (id) ON DELETE CASCADE
) WITH (fillfactor = 50);

COMMENT ON TABLE session_leftovers IS
    'An ended session whose leftover blobs have not been finally removed.';
COMMENT ON COLUMN session_leftovers.session_id IS 'The session.';
COMMENT ON COLUMN session_leftovers.finished_at IS
    'When it ended: once no worker can still be writing for it, its blobs are finally removed.';
COMMENT ON COLUMN session_leftovers.at_once IS
    'Whether blobs must be removed before that too: decoded audio, or audio that may not be kept.';
