-- Files that are made on request or each day: exports and reports.


CREATE TABLE exports (
    id                uuid        NOT NULL,
    user_id           uuid,
    format            text        NOT NULL,
    selection         jsonb       NOT NULL,
    all_users         boolean     NOT NULL DEFAULT false,
    session_id        uuid,
    rows_written      bigint,
    size_bytes        bigint,
    blob_key          text,
    expires_at        timestamptz NOT NULL,
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

    CONSTRAINT pk_exports PRIMARY KEY (id),
    CONSTRAINT ck_exports_file CHECK ((state = 'completed') = (blob_key IS NOT NULL)),
    CONSTRAINT ck_exports_format
        CHECK (format IN ('csv', 'ndjson', 'parquet', 'audacity', 'raven', 'dcase', 'rttm',
            'clips', 'clip')),
    CONSTRAINT ck_exports_percent CHECK (percent BETWEEN 0 AND 100),
    CONSTRAINT ck_exports_selection CHECK (jsonb_typeof(selection) = 'object'),
    CONSTRAINT ck_exports_state CHECK (state IN ('pending', 'completed', 'failed')),
    CONSTRAINT fk_exports_user_id FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE SET NULL
);

COMMENT ON TABLE exports IS 'A selection of detections to write to a file, and the file.';
COMMENT ON COLUMN exports.id IS 'The export''s ID.';
COMMENT ON COLUMN exports.user_id IS
    'The user that the row belongs to; null without one, or if the user was removed.';
COMMENT ON COLUMN exports.format IS 'The format of the file; docs/exports.md describes them.';
COMMENT ON COLUMN exports.selection IS 'The filters for sessions and detections.';
COMMENT ON COLUMN exports.all_users IS
    'Whether it may cover the sessions of all users rather than only the user''s own.';
COMMENT ON COLUMN exports.session_id IS
    'The session, if it covers one only, with which it is removed. Not a foreign key, since its '
    'file must be removed too.';
COMMENT ON COLUMN exports.rows_written IS
    'The number of detections in the file; null until there is one.';
COMMENT ON COLUMN exports.size_bytes IS 'The size of the file; null until there is one.';
COMMENT ON COLUMN exports.blob_key IS
    'The key of the file in the blob store; null until there is one.';
COMMENT ON COLUMN exports.expires_at IS
    'From then on the file is not served; row and file are removed.';
COMMENT ON COLUMN exports.created_at IS 'When it was requested.';
COMMENT ON COLUMN exports.started_at IS 'When a worker first claimed it.';
COMMENT ON COLUMN exports.finished_at IS 'When it ended; null until then.';
COMMENT ON COLUMN exports.percent IS 'The progress of the latest claim, from 0 to 100.';
COMMENT ON COLUMN exports.stage IS 'The current stage of the latest claim.';
COMMENT ON COLUMN exports.problem IS 'Why it failed, as a code and a sentence; null unless it did.';
COMMENT ON COLUMN exports.state IS 'The state; the check constraint has the possible ones.';
COMMENT ON COLUMN exports.attempt IS
    'The number of claims: the fence, since a result is written only for the claim with this '
    'number.';
COMMENT ON COLUMN exports.due_at IS
    'When the row may be claimed next: the end of the lease, or the time of the next try.';
COMMENT ON COLUMN exports.nudged_at IS 'When a message about the row was last sent.';
COMMENT ON COLUMN exports.last_error IS 'Why the last try failed; null if none did.';
COMMENT ON COLUMN exports.uncounted IS
    'Claims that do not count against CLAMOR_MAX_ATTEMPTS: those that ended because a store of '
    'the installation failed, or because the worker lacked the session''s backbone, and those '
    'before a requested retry.';
COMMENT ON COLUMN exports.waits_for_storage IS
    'Whether the latest claim ended for want of storage and no other has followed.';
COMMENT ON COLUMN exports.traceparent IS
    'The traceparent (W3C Trace Context) of the request that created the row; null without '
    'tracing.';

-- export_queries.remove_expired
CREATE INDEX ix_exports_expires_at ON exports (expires_at);

-- removal_queries.remove_sessions
CREATE INDEX ix_exports_session_id ON exports (session_id) WHERE session_id IS NOT NULL;

-- queue_queries.take_stalled, backlogs
CREATE INDEX ix_exports_unfinished ON exports (due_at) WHERE state = 'pending';

-- list_queries.jobs
CREATE INDEX ix_exports_user_created ON exports (user_id, created_at, id);


CREATE TABLE daily_reports (
    id                uuid        NOT NULL,
    user_id           uuid,
    day               date        NOT NULL,
    time_zone         text        NOT NULL,
    starts_at         timestamptz NOT NULL,
    ends_at           timestamptz NOT NULL,
    report            jsonb,
    made_at           timestamptz,
    made_from         text,
    html_key          text,
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

    CONSTRAINT pk_daily_reports PRIMARY KEY (id),
    CONSTRAINT uq_daily_reports_day UNIQUE NULLS NOT DISTINCT (day, time_zone, user_id),
    CONSTRAINT ck_daily_reports_percent CHECK (percent BETWEEN 0 AND 100),
    CONSTRAINT ck_daily_reports_report
        CHECK (num_nonnulls(report, made_at, made_from, html_key) IN (0, 4)),
    CONSTRAINT ck_daily_reports_state CHECK (state IN ('pending', 'completed', 'failed')),
    CONSTRAINT ck_daily_reports_time_zone CHECK (length(time_zone) BETWEEN 1 AND 64),
    CONSTRAINT ck_daily_reports_times CHECK (ends_at > starts_at),
    CONSTRAINT fk_daily_reports_user_id
        FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE CASCADE
);

COMMENT ON TABLE daily_reports IS
    'The report of one day in one time zone. There is one per day, zone and user.';
COMMENT ON COLUMN daily_reports.id IS 'The report''s ID.';
COMMENT ON COLUMN daily_reports.user_id IS
    'The user whose sessions it covers; null for all users. It is removed with its user, as it '
    'would otherwise seem to cover all users.';
COMMENT ON COLUMN daily_reports.day IS 'The day.';
COMMENT ON COLUMN daily_reports.time_zone IS 'The time zone of the day, an IANA name.';
COMMENT ON COLUMN daily_reports.starts_at IS 'When the day began in its time zone.';
COMMENT ON COLUMN daily_reports.ends_at IS 'When the day ended in its time zone.';
COMMENT ON COLUMN daily_reports.report IS 'The figures; null until it was generated once.';
COMMENT ON COLUMN daily_reports.made_at IS 'When it was generated.';
COMMENT ON COLUMN daily_reports.made_from IS
    'A version token of the sessions that it is based on; it is stale if they have another one.';
COMMENT ON COLUMN daily_reports.html_key IS 'The key of its page in the blob store.';
COMMENT ON COLUMN daily_reports.created_at IS 'When it was requested.';
COMMENT ON COLUMN daily_reports.started_at IS 'When a worker first claimed it.';
COMMENT ON COLUMN daily_reports.finished_at IS 'When it ended; null until then.';
COMMENT ON COLUMN daily_reports.percent IS 'The progress of the latest claim, from 0 to 100.';
COMMENT ON COLUMN daily_reports.stage IS 'The current stage of the latest claim.';
COMMENT ON COLUMN daily_reports.problem IS
    'Why it failed, as a code and a sentence; null unless it did.';
COMMENT ON COLUMN daily_reports.state IS 'The state; the check constraint has the possible ones.';
COMMENT ON COLUMN daily_reports.attempt IS
    'The number of claims: the fence, since a result is written only for the claim with this '
    'number.';
COMMENT ON COLUMN daily_reports.due_at IS
    'When the row may be claimed next: the end of the lease, or the time of the next try.';
COMMENT ON COLUMN daily_reports.nudged_at IS 'When a message about the row was last sent.';
COMMENT ON COLUMN daily_reports.last_error IS 'Why the last try failed; null if none did.';
COMMENT ON COLUMN daily_reports.uncounted IS
    'Claims that do not count against CLAMOR_MAX_ATTEMPTS: those that ended because a store of '
    'the installation failed, or because the worker lacked the session''s backbone, and those '
    'before a requested retry.';
COMMENT ON COLUMN daily_reports.waits_for_storage IS
    'Whether the latest claim ended for want of storage and no other has followed.';
COMMENT ON COLUMN daily_reports.traceparent IS
    'The traceparent (W3C Trace Context) of the request that created the row; null without '
    'tracing.';

-- queue_queries.take_stalled, backlogs
CREATE INDEX ix_daily_reports_unfinished ON daily_reports (due_at) WHERE state = 'pending';

-- report_queries.reports
CREATE INDEX ix_daily_reports_user_created ON daily_reports (user_id, created_at, id);
