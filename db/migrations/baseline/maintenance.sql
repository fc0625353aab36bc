-- Periodic jobs, kept clips, the owner of the blob store, and orphaned blobs.


CREATE TABLE job_runs (
    id                uuid        NOT NULL,
    job               text        NOT NULL,
    slot              timestamptz NOT NULL,
    source            text        NOT NULL,
    options           jsonb       NOT NULL DEFAULT '{}',
    result            jsonb,
    created_at        timestamptz NOT NULL DEFAULT now(),
    started_at        timestamptz,
    finished_at       timestamptz,
    percent           smallint    NOT NULL DEFAULT 0,
    stage             text        NOT NULL DEFAULT 'waiting',
    problem           jsonb,
    state             text        NOT NULL,
    attempt           smallint    NOT NULL DEFAULT 0,
    due_at            timestamptz NOT NULL DEFAULT now(),
    nudged_at         timestamptz NOT NULL DEFAULT now(),
    last_error        text,
    uncounted         smallint    NOT NULL DEFAULT 0,
    waits_for_storage boolean     NOT NULL DEFAULT false,
    traceparent       text,

    CONSTRAINT pk_job_runs PRIMARY KEY (id),
    CONSTRAINT uq_job_runs_job UNIQUE (job, slot),
    CONSTRAINT ck_job_runs_percent CHECK (percent BETWEEN 0 AND 100),
    CONSTRAINT ck_job_runs_source CHECK (source IN ('clock', 'steward', 'person')),
    CONSTRAINT ck_job_runs_state CHECK (state IN ('pending', 'completed', 'failed'))
);

COMMENT ON TABLE job_runs IS
    'One run of a periodic job. There is one per job and slot, whatever its origin.';
COMMENT ON COLUMN job_runs.id IS 'The run''s ID.';
COMMENT ON COLUMN job_runs.job IS 'The name of the job''s actor.';
COMMENT ON COLUMN job_runs.slot IS
    'The scheduled time; for a requested run, the time of the request.';
COMMENT ON COLUMN job_runs.source IS
    'The origin of the run: the scheduler''s tick (clock), recovery (steward), or a person.';
COMMENT ON COLUMN job_runs.options IS 'Options that override the defaults of the job.';
COMMENT ON COLUMN job_runs.result IS 'What the run did; null until it has succeeded.';
COMMENT ON COLUMN job_runs.created_at IS 'When it was requested.';
COMMENT ON COLUMN job_runs.started_at IS 'When a worker first claimed it.';
COMMENT ON COLUMN job_runs.finished_at IS 'When it ended; null until then.';
COMMENT ON COLUMN job_runs.percent IS 'The progress of the latest claim, from 0 to 100.';
COMMENT ON COLUMN job_runs.stage IS 'The current stage of the latest claim.';
COMMENT ON COLUMN job_runs.problem IS
    'Why it failed, as a code and a sentence; null unless it did.';
COMMENT ON COLUMN job_runs.state IS 'The state; the check constraint has the possible ones.';
COMMENT ON COLUMN job_runs.attempt IS
    'The number of claims: the fence, since a result is written only for the claim with this '
    'number.';
COMMENT ON COLUMN job_runs.due_at IS
    'When the row may be claimed next: the end of the lease, or the time of the next try.';
COMMENT ON COLUMN job_runs.nudged_at IS 'When a message about the row was last sent.';
COMMENT ON COLUMN job_runs.last_error IS 'Why the last try failed; null if none did.';
COMMENT ON COLUMN job_runs.uncounted IS
    'Claims that do not count against CLAMOR_MAX_ATTEMPTS: those that ended because a store of '
    'the installation failed, or because the worker lacked the session''s backbone, and those '
    'before a requested retry.';
COMMENT ON COLUMN job_runs.waits_for_storage IS
    'Whether the latest claim ended for want of storage and no other has followed.';
COMMENT ON COLUMN job_runs.traceparent IS
    'The traceparent (W3C Trace Context) of the request that created the row; null without '
    'tracing.';

-- queue_queries.take_stalled, backlogs; job_run_queries.take_run
CREATE INDEX ix_job_runs_unfinished ON job_runs (due_at) WHERE state = 'pending';


CREATE TABLE kept_clips (
    id         uuid             NOT NULL,
    user_id    uuid,
    noise_type text             NOT NULL,
    confidence double precision NOT NULL,
    session_id uuid             NOT NULL,
    file_name  text             NOT NULL,
    start_s    double precision NOT NULL,
    end_s      double precision NOT NULL,
    sent_at    timestamptz      NOT NULL,
    kept_at    timestamptz      NOT NULL DEFAULT now(),
    blob_key   text             NOT NULL,

    CONSTRAINT pk_kept_clips PRIMARY KEY (id),
    CONSTRAINT ck_kept_clips_confidence CHECK (confidence BETWEEN 0 AND 1),
    CONSTRAINT ck_kept_clips_times CHECK (end_s > start_s),
    CONSTRAINT fk_kept_clips_user_id FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE SET NULL
);

COMMENT ON TABLE kept_clips IS
    'One of the most confident detections of its type, whose audio outlives its session.';
COMMENT ON COLUMN kept_clips.id IS 'The clip''s ID.';
COMMENT ON COLUMN kept_clips.user_id IS
    'The user that the row belongs to; null without one, or if the user was removed.';
COMMENT ON COLUMN kept_clips.noise_type IS 'The noise type of the detection.';
COMMENT ON COLUMN kept_clips.confidence IS 'The probability of the noise type, from 0 to 1.';
COMMENT ON COLUMN kept_clips.session_id IS 'The session, which has been removed.';
COMMENT ON COLUMN kept_clips.file_name IS 'The client''s name for the recording.';
COMMENT ON COLUMN kept_clips.start_s IS
    'The start of the clip, in seconds from the start of the recording.';
COMMENT ON COLUMN kept_clips.end_s IS
    'The end of the clip, in seconds from the start of the recording.';
COMMENT ON COLUMN kept_clips.sent_at IS 'When the recording was uploaded.';
COMMENT ON COLUMN kept_clips.kept_at IS 'When the clip was cut.';
COMMENT ON COLUMN kept_clips.blob_key IS 'The key of the clip in the blob store.';

-- retention_queries.least_kept, drop_clips
CREATE INDEX ix_kept_clips_noise_type ON kept_clips (user_id, noise_type, confidence);


CREATE TABLE installation (
    singleton boolean NOT NULL DEFAULT true,
    id        uuid    NOT NULL DEFAULT gen_random_uuid(),

    CONSTRAINT pk_installation PRIMARY KEY (singleton),
    CONSTRAINT ck_installation_singleton CHECK (singleton)
);

COMMENT ON TABLE installation IS
    'The single row that identifies this installation. A restored dump has the same ID.';
COMMENT ON COLUMN installation.singleton IS 'Always true, so that there is one row.';
COMMENT ON COLUMN installation.id IS
    'The ID of the installation. A restored dump has the same one.';

INSERT INTO installation DEFAULT VALUES;


CREATE TABLE orphan_blobs (
    key       text        NOT NULL,
    seen_at   timestamptz NOT NULL,
    marked_at timestamptz,

    CONSTRAINT pk_orphan_blobs PRIMARY KEY (key)
);

COMMENT ON TABLE orphan_blobs IS 'A blob that no row names, as the job clean_up found it.';
COMMENT ON COLUMN orphan_blobs.key IS 'The key of the blob.';
COMMENT ON COLUMN orphan_blobs.seen_at IS
    'The start of the latest run that found it without a row.';
COMMENT ON COLUMN orphan_blobs.marked_at IS
    'When it was marked, to be removed some days later; null if it was only found.';


CREATE TABLE removed_blobs (
    prefix      text        NOT NULL,
    finished_at timestamptz NOT NULL DEFAULT now(),
    at_once     boolean     NOT NULL DEFAULT true,

    CONSTRAINT pk_removed_blobs PRIMARY KEY (prefix)
);

COMMENT ON TABLE removed_blobs IS
    'Blobs whose row was removed, until no worker can still be writing one of them.';
COMMENT ON COLUMN removed_blobs.prefix IS
    'The prefix of their keys, which ends in a slash, or the whole key of one blob.';
COMMENT ON COLUMN removed_blobs.finished_at IS
    'When the row was removed, or its work had ended before: once no worker can still be writing '
    'for it, the blobs are finally removed.';
COMMENT ON COLUMN removed_blobs.at_once IS
    'Whether they are still to be removed before that too.';
