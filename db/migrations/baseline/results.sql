-- Rows below a session: spans of work, detections, the analysis, and the runs of steps.


CREATE TABLE session_spans (
    session_id        uuid        NOT NULL,
    span_index        integer     NOT NULL,
    start_sample      bigint      NOT NULL,
    stop_sample       bigint      NOT NULL,
    started_at        timestamptz,
    scores            bytea,
    state             text        NOT NULL,
    attempt           smallint    NOT NULL DEFAULT 0,
    due_at            timestamptz NOT NULL DEFAULT now(),
    nudged_at         timestamptz NOT NULL DEFAULT now(),
    last_error        text,
    uncounted         smallint    NOT NULL DEFAULT 0,
    waits_for_storage boolean     NOT NULL DEFAULT false,

    CONSTRAINT pk_session_spans PRIMARY KEY (session_id, span_index),
    CONSTRAINT ck_session_spans_samples CHECK (stop_sample > start_sample),
    CONSTRAINT ck_session_spans_state CHECK (state IN ('pending', 'done', 'failed')),
    CONSTRAINT fk_session_spans_session_id
        FOREIGN KEY (session_id) REFERENCES audio_sessions (id) ON DELETE CASCADE
) WITH (fillfactor = 50);

COMMENT ON TABLE session_spans IS 'About a minute of one recording: the unit of a message.';
COMMENT ON COLUMN session_spans.session_id IS 'The session.';
COMMENT ON COLUMN session_spans.span_index IS '0, 1, 2, ... in chronological order.';
COMMENT ON COLUMN session_spans.start_sample IS
    'The first sample, at 16 kHz on the session''s grid.';
COMMENT ON COLUMN session_spans.stop_sample IS 'The sample after the last one.';
COMMENT ON COLUMN session_spans.started_at IS 'When a worker first claimed it.';
COMMENT ON COLUMN session_spans.scores IS
    'The class probabilities of its frames of 0.1 s: little-endian float16 [n_steps, n_classes], '
    'the classes in the order of the model''s; null until done, and where the session was processed '
    'in one claim, which needs none.';
COMMENT ON COLUMN session_spans.state IS 'The state; the check constraint has the possible ones.';
COMMENT ON COLUMN session_spans.attempt IS
    'The number of claims: the fence, since a result is written only for the claim with this '
    'number.';
COMMENT ON COLUMN session_spans.due_at IS
    'When the row may be claimed next: the end of the lease, or the time of the next try.';
COMMENT ON COLUMN session_spans.nudged_at IS 'When a message about the row was last sent.';
COMMENT ON COLUMN session_spans.last_error IS 'Why the last try failed; null if none did.';
COMMENT ON COLUMN session_spans.uncounted IS
    'Claims that do not count against CLAMOR_MAX_ATTEMPTS: those that ended because a store of '
    'the installation failed, or because the worker lacked the session''s backbone, and those '
    'before a requested retry.';
COMMENT ON COLUMN session_spans.waits_for_storage IS
    'Whether the latest claim ended for want of storage and no other has followed.';


CREATE TABLE noise_detections (
    session_id         uuid               NOT NULL,
    event_index        integer            NOT NULL,
    -- A UUID of version 8 (RFC 9562).
    id                 uuid               NOT NULL GENERATED ALWAYS AS (
        left(overlay(overlay(encode(sha256(uuid_send(session_id) || (event_index::text)::bytea),
            'hex') placing '8' from 13) placing '8' from 17), 32)::uuid
    ) STORED,
    user_id            uuid,
    heard_at           timestamptz,
    start_s            double precision   NOT NULL,
    end_s              double precision   NOT NULL,
    noise_type         text               NOT NULL,
    confidence         double precision   NOT NULL,
    laeq_db            double precision,
    lafmax_db          double precision,
    lae_db             double precision,
    lasmax_db          double precision,
    lcpeak_db          double precision,
    background_la90_db double precision,
    emergence_db       double precision,
    above_background_s double precision,
    overloaded         boolean,
    third_octaves_db   double precision[],
    candidates         jsonb              NOT NULL DEFAULT '[]',

    CONSTRAINT pk_noise_detections PRIMARY KEY (session_id, event_index),
    CONSTRAINT ck_noise_detections_confidence CHECK (confidence BETWEEN 0 AND 1),
    CONSTRAINT ck_noise_detections_times CHECK (end_s > start_s),
    CONSTRAINT fk_noise_detections_session_id
        FOREIGN KEY (session_id) REFERENCES audio_sessions (id) ON DELETE CASCADE,
    CONSTRAINT fk_noise_detections_user_id
        FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE SET NULL
);

COMMENT ON TABLE noise_detections IS 'One detection: noise type, time, levels and confidence.';
COMMENT ON COLUMN noise_detections.session_id IS 'The session of the recording.';
COMMENT ON COLUMN noise_detections.event_index IS '0, 1, 2, ... in the order of the onsets.';
COMMENT ON COLUMN noise_detections.id IS
    'Of the session and the index alone, so that repeated work gives the same ID.';
COMMENT ON COLUMN noise_detections.user_id IS
    'The user that the row belongs to; null without one, or if the user was removed.';
COMMENT ON COLUMN noise_detections.heard_at IS
    'The time of recording of the session plus the onset; null without that.';
COMMENT ON COLUMN noise_detections.start_s IS
    'The onset, in seconds from the start of the recording.';
COMMENT ON COLUMN noise_detections.end_s IS 'The end, in seconds from the start of the recording.';
COMMENT ON COLUMN noise_detections.noise_type IS 'The most likely noise type.';
COMMENT ON COLUMN noise_detections.confidence IS 'The probability of the noise type, from 0 to 1.';
COMMENT ON COLUMN noise_detections.laeq_db IS
    'LAeq in dB re the session''s reference; null for digital silence.';
COMMENT ON COLUMN noise_detections.lafmax_db IS
    'LAFmax in dB re the session''s reference; null for digital silence.';
COMMENT ON COLUMN noise_detections.lae_db IS
    'LAE (sound exposure level) in dB re the session''s reference; null also where it was not '
    'measured.';
COMMENT ON COLUMN noise_detections.lasmax_db IS
    'LASmax in dB re the session''s reference; null also where it was not measured.';
COMMENT ON COLUMN noise_detections.lcpeak_db IS
    'LCpeak in dB re the session''s reference; null also where it was not measured.';
COMMENT ON COLUMN noise_detections.background_la90_db IS
    'LA90 of the background before the onset; null where too little undisturbed sound precedes it.';
COMMENT ON COLUMN noise_detections.emergence_db IS
    'LAeq above the background in dB; null without a background.';
COMMENT ON COLUMN noise_detections.above_background_s IS
    'Seconds during which it exceeds the background; null without a background.';
COMMENT ON COLUMN noise_detections.overloaded IS
    'Whether the recording is overloaded in it; null where that was not measured.';
COMMENT ON COLUMN noise_detections.third_octaves_db IS
    'LZeq of each third-octave band, the lowest first; null where bands were not measured.';
COMMENT ON COLUMN noise_detections.candidates IS
    'The most likely types with their probabilities, at most five, in descending order.';

-- list_queries.sessions with a type
CREATE INDEX ix_noise_detections_type ON noise_detections (noise_type, session_id, confidence);

-- detection_queries.detections, sums of all users
CREATE INDEX ix_noise_detections_heard_at ON noise_detections (heard_at, id);

-- detection_queries.get_detection
CREATE UNIQUE INDEX ix_noise_detections_id ON noise_detections (id);

-- detection_queries.detections, sums of a user
CREATE INDEX ix_noise_detections_user_heard ON noise_detections (user_id, heard_at, id);


CREATE TABLE analyses (
    session_id        uuid        NOT NULL,
    asking_id         uuid        NOT NULL,
    limits_db         jsonb       NOT NULL DEFAULT '{}',
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

    CONSTRAINT pk_analyses PRIMARY KEY (session_id),
    CONSTRAINT uq_analyses_asking_id UNIQUE (asking_id),
    CONSTRAINT ck_analyses_limits_db CHECK (jsonb_typeof(limits_db) = 'object'),
    CONSTRAINT ck_analyses_percent CHECK (percent BETWEEN 0 AND 100),
    CONSTRAINT ck_analyses_result CHECK ((state = 'completed') = (result IS NOT NULL)),
    CONSTRAINT ck_analyses_state CHECK (state IN ('pending', 'completed', 'failed')),
    CONSTRAINT fk_analyses_session_id
        FOREIGN KEY (session_id) REFERENCES audio_sessions (id) ON DELETE CASCADE
);

COMMENT ON TABLE analyses IS
    'A session''s analysis. Created at the session''s end, and computed again on request.';
COMMENT ON COLUMN analyses.session_id IS 'The session that is analysed.';
COMMENT ON COLUMN analyses.asking_id IS
    'The ID of the latest request: work for an earlier request is outdated.';
COMMENT ON COLUMN analyses.limits_db IS
    'The limits by the name of the level (LAeq, LAFmax), in dB re the session''s reference.';
COMMENT ON COLUMN analyses.result IS 'The analysis; null until it has succeeded.';
COMMENT ON COLUMN analyses.created_at IS 'When it was requested.';
COMMENT ON COLUMN analyses.started_at IS 'When a worker first claimed it.';
COMMENT ON COLUMN analyses.finished_at IS 'When it ended; null until then.';
COMMENT ON COLUMN analyses.percent IS 'The progress of the latest claim, from 0 to 100.';
COMMENT ON COLUMN analyses.stage IS 'The current stage of the latest claim.';
COMMENT ON COLUMN analyses.problem IS
    'Why it failed, as a code and a sentence; null unless it did.';
COMMENT ON COLUMN analyses.state IS 'The state; the check constraint has the possible ones.';
COMMENT ON COLUMN analyses.attempt IS
    'The number of claims: the fence, since a result is written only for the claim with this '
    'number.';
COMMENT ON COLUMN analyses.due_at IS
    'When the row may be claimed next: the end of the lease, or the time of the next try.';
COMMENT ON COLUMN analyses.nudged_at IS 'When a message about the row was last sent.';
COMMENT ON COLUMN analyses.last_error IS 'Why the last try failed; null if none did.';
COMMENT ON COLUMN analyses.uncounted IS
    'Claims that do not count against CLAMOR_MAX_ATTEMPTS: those that ended because a store of '
    'the installation failed, or because the worker lacked the session''s backbone, and those '
    'before a requested retry.';
COMMENT ON COLUMN analyses.waits_for_storage IS
    'Whether the latest claim ended for want of storage and no other has followed.';
COMMENT ON COLUMN analyses.traceparent IS
    'The traceparent (W3C Trace Context) of the request that created the row; null without '
    'tracing.';

-- queue_queries.take_stalled, backlogs
CREATE INDEX ix_analyses_unfinished ON analyses (session_id) WHERE state = 'pending';


-- partitions.sql creates the partitions, a month each.
CREATE TABLE processing_metrics (
    id          bigint           NOT NULL GENERATED ALWAYS AS IDENTITY,
    session_id  uuid,
    job_id      uuid,
    step        text             NOT NULL,
    span_index  integer,
    attempt     smallint         NOT NULL,
    result      text             NOT NULL,
    duration_s  double precision NOT NULL,
    recorded_at timestamptz      NOT NULL DEFAULT now(),

    -- It must contain the time.
    CONSTRAINT pk_processing_metrics PRIMARY KEY (recorded_at, id),
    CONSTRAINT ck_processing_metrics_subject CHECK (num_nonnulls(session_id, job_id) = 1)
) PARTITION BY RANGE (recorded_at);

COMMENT ON TABLE processing_metrics IS 'One run of one step: its duration and its result.';
COMMENT ON COLUMN processing_metrics.id IS 'Numbers the runs in the order of their ends.';
COMMENT ON COLUMN processing_metrics.session_id IS
    'The session that the step worked on; null for other work. Not a foreign key: the row outlives '
    'it, and is removed with its month.';
COMMENT ON COLUMN processing_metrics.job_id IS
    'The training, validation, batch or the like; null for a session. The step determines the '
    'table, so it is not a foreign key.';
COMMENT ON COLUMN processing_metrics.step IS 'The name of the step.';
COMMENT ON COLUMN processing_metrics.span_index IS
    'The span of the session; null if the step works on the whole session.';
COMMENT ON COLUMN processing_metrics.attempt IS 'The number of the claim.';
COMMENT ON COLUMN processing_metrics.result IS
    'How the run ended; actors/execution/run_log.py explains the values.';
COMMENT ON COLUMN processing_metrics.duration_s IS 'The duration in seconds.';
COMMENT ON COLUMN processing_metrics.recorded_at IS 'When the run ended.';

-- analysis_queries.runs_of; retry_queries.retry_session
CREATE INDEX ix_processing_metrics_session_id ON processing_metrics (session_id);
