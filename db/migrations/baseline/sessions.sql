-- Sessions: one row for each recording. The reference to batches is in batches.sql, and the work on
-- unfinished sessions in unfinished.sql.


-- The columns that change last come last: so the WAL of an update has few of the others.
CREATE TABLE audio_sessions (
    id                        uuid               NOT NULL,
    user_id                   uuid,
    file_name                 text               NOT NULL,
    recording_key             text               NOT NULL,
    size_bytes                bigint,
    source_url                text,
    source_key                text,
    created_at                timestamptz        NOT NULL DEFAULT now(),
    priority                  smallint           NOT NULL DEFAULT 1,
    batch_id                  uuid,
    webhook_id                uuid,
    traceparent               text,
    calibration_db            double precision,
    calibration_tone_db       double precision,
    bands                     text,
    noise_floor_db            double precision,
    channel                   text               NOT NULL DEFAULT 'energy_mean',
    thresholds                jsonb              NOT NULL DEFAULT '{}',
    types                     text[]             NOT NULL DEFAULT '{}',
    privacy                   text               NOT NULL DEFAULT 'keep',
    recorded_at               timestamptz,
    recorded_at_from          text,
    recorded_at_zone          text,
    time_zone                 text,
    user_metadata             jsonb              NOT NULL DEFAULT '{}',
    model_id                  uuid,
    container                 text,
    codec                     text,
    rate_hz                   integer,
    n_channels                integer,
    missing_s                 double precision,
    holes                     jsonb,
    n_samples                 bigint,
    grid_lead                 integer            NOT NULL DEFAULT 0,
    backbone                  text,
    backbone_sha256           text,
    totals                    jsonb,
    quarter_mean_squares      double precision[],
    quarter_overloads         double precision[],
    quarter_overload_energies double precision[],
    summary                   jsonb,
    problem                   jsonb,
    levels_answer_key         text,
    muted_key                 text,
    legal_hold                boolean            NOT NULL DEFAULT false,
    levels_key                text,
    spectrogram_key           text,
    pcm_key                   text,
    wide_pcm_key              text,
    bands_key                 text,
    audio_removed_at          timestamptz,
    state                     text               NOT NULL,
    started_at                timestamptz,
    spans_total               integer            NOT NULL DEFAULT 0,
    spans_finished            integer            NOT NULL DEFAULT 0,

    CONSTRAINT pk_audio_sessions PRIMARY KEY (id),
    CONSTRAINT ck_audio_sessions_bands CHECK (bands IN ('third_octave')),
    CONSTRAINT ck_audio_sessions_calibration CHECK (calibration_db BETWEEN -100.0 AND 250.0),
    CONSTRAINT ck_audio_sessions_channel CHECK (channel ~ '^(energy_mean|loudest|[1-9][0-9]?)$'),
    CONSTRAINT ck_audio_sessions_noise_floor CHECK (noise_floor_db BETWEEN -50.0 AND 150.0),
    CONSTRAINT ck_audio_sessions_priority CHECK (priority IN (0, 1, 2)),
    CONSTRAINT ck_audio_sessions_privacy CHECK (privacy IN ('keep', 'mute', 'discard_audio')),
    CONSTRAINT ck_audio_sessions_recorded_at
        CHECK (recorded_at >= '1860-01-01 00:00:00+00:00'
            AND recorded_at < '2200-01-01 00:00:00+00:00'),
    CONSTRAINT ck_audio_sessions_recorded_at_from
        CHECK (recorded_at_from IN ('guano', 'bext', 'ixml', 'comment', 'wamd', 'tag',
            'file_name', 'creation_time')),
    CONSTRAINT ck_audio_sessions_recorded_at_source
        CHECK (num_nonnulls(recorded_at_from, recorded_at_zone) = 0
            OR num_nulls(recorded_at, recorded_at_from, recorded_at_zone) = 0),
    CONSTRAINT ck_audio_sessions_recorded_at_zone
        CHECK (recorded_at_zone IN ('file', 'time_zone', 'assumed_utc')),
    CONSTRAINT ck_audio_sessions_source CHECK (num_nonnulls(source_url, source_key) <= 1),
    CONSTRAINT ck_audio_sessions_spans CHECK (spans_finished <= spans_total),
    CONSTRAINT ck_audio_sessions_state
        CHECK (state IN ('queued', 'splitting', 'detecting', 'aggregating', 'completed',
            'partial', 'failed', 'cancelled')),
    CONSTRAINT ck_audio_sessions_thresholds CHECK (jsonb_typeof(thresholds) = 'object'),
    CONSTRAINT ck_audio_sessions_time_zone CHECK (length(time_zone) BETWEEN 1 AND 64),
    CONSTRAINT ck_audio_sessions_tone CHECK (calibration_tone_db IN (94.0, 114.0)),
    CONSTRAINT ck_audio_sessions_user_metadata CHECK (jsonb_typeof(user_metadata) = 'object'),
    CONSTRAINT fk_audio_sessions_model_id FOREIGN KEY (model_id) REFERENCES noise_models (id),
    CONSTRAINT fk_audio_sessions_user_id
        FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE SET NULL
) WITH (fillfactor = 70);

COMMENT ON TABLE audio_sessions IS 'One recording on its way from upload to answer.';
COMMENT ON COLUMN audio_sessions.id IS 'The session''s ID.';
COMMENT ON COLUMN audio_sessions.user_id IS
    'The user that the row belongs to; null without one, or if the user was removed.';
COMMENT ON COLUMN audio_sessions.file_name IS
    'The client''s name for the file: shown, never used as a path.';
COMMENT ON COLUMN audio_sessions.recording_key IS 'The key of the recording in the blob store.';
COMMENT ON COLUMN audio_sessions.size_bytes IS
    'The size of the recording; null until it has been fetched from its source.';
COMMENT ON COLUMN audio_sessions.source_url IS
    'The URL that the recording is fetched from; its query is kept only until then.';
COMMENT ON COLUMN audio_sessions.source_key IS
    'The key of the object, or of the direct upload, that the recording is copied from.';
COMMENT ON COLUMN audio_sessions.created_at IS 'When it was posted.';
COMMENT ON COLUMN audio_sessions.started_at IS 'When a worker first claimed it.';
COMMENT ON COLUMN audio_sessions.priority IS
    'Its place in the fair order: 0 is high, 1 normal, 2 low.';
COMMENT ON COLUMN audio_sessions.batch_id IS 'The batch that it belongs to; null without one.';
COMMENT ON COLUMN audio_sessions.webhook_id IS
    'The webhook to notify at its end. Not a foreign key: removing a webhook would lock ending '
    'sessions, each of which waits for the webhook.';
COMMENT ON COLUMN audio_sessions.traceparent IS
    'The traceparent (W3C Trace Context) of the request that created the row; null without '
    'tracing.';
COMMENT ON COLUMN audio_sessions.state IS 'The state; the check constraint has the possible ones.';
COMMENT ON COLUMN audio_sessions.calibration_db IS
    'The offset from dB re full scale to dB SPL, as posted or as measured on a calibrator''s '
    'tone; null for levels re full scale.';
COMMENT ON COLUMN audio_sessions.calibration_tone_db IS
    'The level of the calibrator''s tone in the recording, in dB SPL; null without one.';
COMMENT ON COLUMN audio_sessions.bands IS 'The bands to measure; null for none.';
COMMENT ON COLUMN audio_sessions.noise_floor_db IS
    'The A-weighted self-noise of the instrument in dB SPL; null where the caller gave none.';
COMMENT ON COLUMN audio_sessions.channel IS
    'The channels that are measured and analysed: energy_mean, loudest, or a number, from 1 on.';
COMMENT ON COLUMN audio_sessions.thresholds IS
    'By noise type, the confidence below which detections are not reported.';
COMMENT ON COLUMN audio_sessions.types IS
    'Noise types and groups: only detections of these and of types below them are reported. Empty '
    'for all.';
COMMENT ON COLUMN audio_sessions.privacy IS
    'What is kept of the recording after the session: the original, a copy without speech (mute), '
    'or nothing.';
COMMENT ON COLUMN audio_sessions.recorded_at IS
    'When the recording began: as given by the caller, else as found in the file; null if unknown.';
COMMENT ON COLUMN audio_sessions.recorded_at_from IS
    'The source of the time that was found in the file; null for a time of the caller''s.';
COMMENT ON COLUMN audio_sessions.recorded_at_zone IS
    'How the time that was found got its offset from UTC; null for a time of the caller''s.';
COMMENT ON COLUMN audio_sessions.time_zone IS
    'The zone in which it was recorded, as given by the caller.';
COMMENT ON COLUMN audio_sessions.user_metadata IS 'The caller''s metadata: a flat JSON object.';
COMMENT ON COLUMN audio_sessions.model_id IS
    'The model: the one that it was posted with, else the one in use at its start.';
COMMENT ON COLUMN audio_sessions.container IS 'The format of the file.';
COMMENT ON COLUMN audio_sessions.codec IS 'The codec of the audio.';
COMMENT ON COLUMN audio_sessions.rate_hz IS 'The sample rate of the recording.';
COMMENT ON COLUMN audio_sessions.n_channels IS 'The number of channels of the recording.';
COMMENT ON COLUMN audio_sessions.missing_s IS 'Seconds of the recording that could not be decoded.';
COMMENT ON COLUMN audio_sessions.holes IS
    'The intervals without audio; null if the code that split it did not look for them.';
COMMENT ON COLUMN audio_sessions.n_samples IS 'The length of the decoded audio at 16 kHz.';
COMMENT ON COLUMN audio_sessions.grid_lead IS
    'How many samples before the recording its grid begins.';
COMMENT ON COLUMN audio_sessions.pcm_key IS
    'The key of the decoded audio at 16 kHz; null before the split and after its removal.';
COMMENT ON COLUMN audio_sessions.wide_pcm_key IS
    'The key of the decoded audio at 32 kHz, for the backbone; null without one.';
COMMENT ON COLUMN audio_sessions.backbone IS
    'The backbone of its split; at the end that which named the sounds, null if the model alone '
    'did.';
COMMENT ON COLUMN audio_sessions.backbone_sha256 IS 'The hash of the backbone''s weights.';
COMMENT ON COLUMN audio_sessions.levels_key IS 'The key of its levels over time.';
COMMENT ON COLUMN audio_sessions.bands_key IS
    'The key of its third-octave bands over time, which are not kept after its end; null if not '
    'requested.';
COMMENT ON COLUMN audio_sessions.spectrogram_key IS 'The key of the picture of its spectrogram.';
COMMENT ON COLUMN audio_sessions.totals IS
    'Sums, maxima and the histogram of the whole recording''s levels, re full scale.';
COMMENT ON COLUMN audio_sessions.quarter_mean_squares IS
    'A-weighted mean squares of the quarter hours (UTC) that it covers, re full scale; null '
    'without recorded_at.';
COMMENT ON COLUMN audio_sessions.quarter_overloads IS
    'The overloaded share of the time of each of these quarters; null also where overload was not '
    'measured.';
COMMENT ON COLUMN audio_sessions.quarter_overload_energies IS
    'The overloaded share of the energy of each of these quarters; null also where overload was '
    'not measured.';
COMMENT ON COLUMN audio_sessions.spans_total IS 'The number of its spans; 0 before the split.';
COMMENT ON COLUMN audio_sessions.spans_finished IS
    'The number of its spans that were done or failed when it was last moved; meanwhile '
    'the row of its work counts them.';
COMMENT ON COLUMN audio_sessions.summary IS
    'The detections by type, and the state of channels and levels; null until the end.';
COMMENT ON COLUMN audio_sessions.problem IS
    'What is lost and why, as a code and a sentence; null if nothing is.';
COMMENT ON COLUMN audio_sessions.levels_answer_key IS 'The key of the response about its levels.';
COMMENT ON COLUMN audio_sessions.muted_key IS
    'The key of the copy of the recording without speech, made at the end of a session with '
    'muting.';
COMMENT ON COLUMN audio_sessions.audio_removed_at IS
    'When all audio but the muted copy was removed for privacy; null if it was not.';
COMMENT ON COLUMN audio_sessions.legal_hold IS 'Whether it is kept regardless of its age.';

-- list_queries.sessions of a batch; batch_queries.noise_types_of; export_queries.sessions_behind
-- old_row_queries.remove_old_batches
CREATE INDEX ix_audio_sessions_batch_created
    ON audio_sessions (batch_id, created_at, id) WHERE batch_id IS NOT NULL;

-- list_queries.sessions and export_queries.sessions_behind of all users;
-- retention_queries.page_past of failed sessions
CREATE INDEX ix_audio_sessions_created_at ON audio_sessions (created_at);

-- report_queries.start_reports, reports; report_figure_queries: the sessions of a day
CREATE INDEX ix_audio_sessions_began_at ON audio_sessions (coalesce(recorded_at, created_at));

-- list_queries.sessions with metadata, which repeats the condition
CREATE INDEX ix_audio_sessions_metadata
    ON audio_sessions USING gin (user_metadata jsonb_path_ops) WHERE user_metadata <> '{}';

-- list_queries.sessions and export_queries.sessions_behind of a user
CREATE INDEX ix_audio_sessions_user_created ON audio_sessions (user_id, created_at, id);

-- list_queries.sessions of a user with a file name
CREATE INDEX ix_audio_sessions_user_file ON audio_sessions (user_id, file_name, created_at, id);

-- list_queries.sessions of a user, by the time of recording
CREATE INDEX ix_audio_sessions_user_recorded ON audio_sessions (user_id, recorded_at, id);


-- The columns of an end are indexed here and not above, where the end is an update: see its comment.
CREATE TABLE session_results (
    session_id     uuid             NOT NULL,
    user_id        uuid,
    created_at     timestamptz      NOT NULL,
    finished_at    timestamptz,
    duration_s     double precision,
    max_confidence double precision,
    outcome        text,

    CONSTRAINT pk_session_results PRIMARY KEY (session_id),
    CONSTRAINT ck_session_results_end CHECK (num_nulls(outcome, finished_at) <> 1),
    CONSTRAINT ck_session_results_outcome
        CHECK (outcome IN ('completed', 'partial', 'failed', 'cancelled')),
    CONSTRAINT fk_session_results_session_id
        FOREIGN KEY (session_id) REFERENCES audio_sessions (id) ON DELETE CASCADE,
    CONSTRAINT fk_session_results_user_id
        FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE SET NULL
);

COMMENT ON TABLE session_results IS
    'What lists of sessions are sorted and filtered by, once it is known.';
COMMENT ON COLUMN session_results.session_id IS 'The session.';
COMMENT ON COLUMN session_results.user_id IS
    'The user that the row belongs to; null without one, or if the user was removed.';
COMMENT ON COLUMN session_results.created_at IS 'When the session was posted.';
COMMENT ON COLUMN session_results.finished_at IS 'When it ended; null until then.';
COMMENT ON COLUMN session_results.duration_s IS
    'The length of the decoded recording in seconds; null if it was not decoded.';
COMMENT ON COLUMN session_results.max_confidence IS
    'The greatest confidence of its detections; null without any.';
COMMENT ON COLUMN session_results.outcome IS 'The final state of the session; null until its end.';

-- retention_queries.count_past, page_past
CREATE INDEX ix_session_results_finished
    ON session_results (finished_at) WHERE finished_at IS NOT NULL;

-- list_queries.sessions of a user, with a confidence
CREATE INDEX ix_session_results_user_confidence
    ON session_results (user_id, max_confidence) WHERE max_confidence IS NOT NULL;

-- list_queries.sessions of a user, by duration
CREATE INDEX ix_session_results_user_duration
    ON session_results (user_id, duration_s, session_id);

-- list_queries.sessions of a user, by the time of the end
CREATE INDEX ix_session_results_user_finished
    ON session_results (user_id, finished_at, session_id);

-- list_queries.sessions of a user in a final state
CREATE INDEX ix_session_results_user_outcome
    ON session_results (user_id, outcome, created_at, session_id) WHERE outcome IS NOT NULL;
