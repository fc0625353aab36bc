-- Models, their promotions, and the trainings and validations that produce and measure them.


CREATE TABLE noise_models (
    id            uuid        NOT NULL,
    user_id       uuid,
    name          text        NOT NULL,
    version       text        NOT NULL,
    sha256        text        NOT NULL,
    blob_key      text        NOT NULL,
    header        jsonb       NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now(),
    is_shipped    boolean     NOT NULL DEFAULT false,
    card          jsonb,
    confusion_key text,

    CONSTRAINT pk_noise_models PRIMARY KEY (id),
    CONSTRAINT uq_noise_models_sha256 UNIQUE (sha256),
    CONSTRAINT fk_noise_models_user_id
        FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE SET NULL
);

COMMENT ON TABLE noise_models IS
    'A classifier: its name, its version, the hash of its file, and its accuracy.';
COMMENT ON COLUMN noise_models.id IS 'The model''s ID.';
COMMENT ON COLUMN noise_models.user_id IS
    'The user that the row belongs to; null without one, or if the user was removed.';
COMMENT ON COLUMN noise_models.name IS 'The name, which its versions share.';
COMMENT ON COLUMN noise_models.version IS 'The version, unique for models that were trained here.';
COMMENT ON COLUMN noise_models.sha256 IS 'The hash of the model file.';
COMMENT ON COLUMN noise_models.blob_key IS 'The key of the model file in the blob store.';
COMMENT ON COLUMN noise_models.header IS 'The header of the model file.';
COMMENT ON COLUMN noise_models.created_at IS 'When it was registered.';
COMMENT ON COLUMN noise_models.is_shipped IS
    'Whether it came with a release. The newest such model is used until one is promoted.';
COMMENT ON COLUMN noise_models.card IS
    'The results of its training; null for models that were not trained here.';
COMMENT ON COLUMN noise_models.confusion_key IS
    'The key of the picture of its confusion matrix; null without a card.';

-- list_queries.models; model_queries.model_in_use
CREATE INDEX ix_noise_models_created_at ON noise_models (created_at);

-- The foreign key: the removal of a user reads no whole table.
CREATE INDEX ix_noise_models_user_id ON noise_models (user_id);


CREATE TABLE promotions (
    id          bigint      NOT NULL GENERATED ALWAYS AS IDENTITY,
    model_id    uuid        NOT NULL,
    promoted_at timestamptz NOT NULL DEFAULT now(),
    forced      boolean     NOT NULL,
    comparison  jsonb       NOT NULL,

    CONSTRAINT pk_promotions PRIMARY KEY (id),
    CONSTRAINT fk_promotions_model_id FOREIGN KEY (model_id) REFERENCES noise_models (id)
);

COMMENT ON TABLE promotions IS
    'The promotion of a model. Rows are added and never changed; the newest one counts.';
COMMENT ON COLUMN promotions.id IS 'Numbers the promotions; the highest one counts.';
COMMENT ON COLUMN promotions.model_id IS 'The model that was promoted.';
COMMENT ON COLUMN promotions.promoted_at IS 'When it was promoted.';
COMMENT ON COLUMN promotions.forced IS
    'Whether it was promoted although the comparison advised against it.';
COMMENT ON COLUMN promotions.comparison IS
    'The figures of this model beside those of its predecessor.';

-- model_queries.is_seen_by: whether a model was promoted
CREATE INDEX ix_promotions_model_id ON promotions (model_id);


CREATE TABLE training_jobs (
    id                uuid        NOT NULL,
    user_id           uuid,
    name              text        NOT NULL,
    version           integer     NOT NULL,
    algorithm         text,
    seed              integer     NOT NULL,
    model_id          uuid,
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

    CONSTRAINT pk_training_jobs PRIMARY KEY (id),
    CONSTRAINT uq_training_jobs_name UNIQUE (name, version),
    CONSTRAINT ck_training_jobs_percent CHECK (percent BETWEEN 0 AND 100),
    CONSTRAINT ck_training_jobs_state CHECK (state IN ('pending', 'completed', 'failed')),
    CONSTRAINT ck_training_jobs_version CHECK (version > 0),
    CONSTRAINT fk_training_jobs_model_id FOREIGN KEY (model_id) REFERENCES noise_models (id),
    CONSTRAINT fk_training_jobs_user_id
        FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE SET NULL
);

COMMENT ON TABLE training_jobs IS 'The training of a model on labelled recordings.';
COMMENT ON COLUMN training_jobs.id IS 'The training''s ID.';
COMMENT ON COLUMN training_jobs.user_id IS
    'The user that the row belongs to; null without one, or if the user was removed.';
COMMENT ON COLUMN training_jobs.name IS 'The name of the model.';
COMMENT ON COLUMN training_jobs.version IS
    'The version of the model, counted from 1 for each name; a failed training keeps its number.';
COMMENT ON COLUMN training_jobs.algorithm IS
    'The algorithm; null if the worker shall choose the best.';
COMMENT ON COLUMN training_jobs.seed IS 'The seed of the random numbers.';
COMMENT ON COLUMN training_jobs.model_id IS 'The model; null until there is one.';
COMMENT ON COLUMN training_jobs.created_at IS 'When it was requested.';
COMMENT ON COLUMN training_jobs.started_at IS 'When a worker first claimed it.';
COMMENT ON COLUMN training_jobs.finished_at IS 'When it ended; null until then.';
COMMENT ON COLUMN training_jobs.percent IS 'The progress of the latest claim, from 0 to 100.';
COMMENT ON COLUMN training_jobs.stage IS 'The current stage of the latest claim.';
COMMENT ON COLUMN training_jobs.problem IS
    'Why it failed, as a code and a sentence; null unless it did.';
COMMENT ON COLUMN training_jobs.state IS 'The state; the check constraint has the possible ones.';
COMMENT ON COLUMN training_jobs.attempt IS
    'The number of claims: the fence, since a result is written only for the claim with this '
    'number.';
COMMENT ON COLUMN training_jobs.due_at IS
    'When the row may be claimed next: the end of the lease, or the time of the next try.';
COMMENT ON COLUMN training_jobs.nudged_at IS 'When a message about the row was last sent.';
COMMENT ON COLUMN training_jobs.last_error IS 'Why the last try failed; null if none did.';
COMMENT ON COLUMN training_jobs.uncounted IS
    'Claims that do not count against CLAMOR_MAX_ATTEMPTS: those that ended because a store of '
    'the installation failed, or because the worker lacked the session''s backbone, and those '
    'before a requested retry.';
COMMENT ON COLUMN training_jobs.waits_for_storage IS
    'Whether the latest claim ended for want of storage and no other has followed.';
COMMENT ON COLUMN training_jobs.traceparent IS
    'The traceparent (W3C Trace Context) of the request that created the row; null without '
    'tracing.';

-- The foreign key: the removal of a model reads no whole table.
CREATE INDEX ix_training_jobs_model_id ON training_jobs (model_id);

-- queue_queries.take_stalled, backlogs
CREATE INDEX ix_training_jobs_unfinished ON training_jobs (due_at) WHERE state = 'pending';

-- list_queries.jobs
CREATE INDEX ix_training_jobs_user_created ON training_jobs (user_id, created_at, id);


CREATE TABLE training_clips (
    job_id     uuid             NOT NULL,
    clip_index integer          NOT NULL,
    file_name  text             NOT NULL,
    label      text             NOT NULL,
    source     text             NOT NULL,
    start_s    double precision,
    end_s      double precision,
    blob_key   text,
    session_id uuid,
    outcome    text,
    reason     text,

    CONSTRAINT pk_training_clips PRIMARY KEY (job_id, clip_index),
    CONSTRAINT ck_training_clips_outcome CHECK (outcome IN ('used', 'refused')),
    CONSTRAINT ck_training_clips_reason CHECK ((outcome = 'refused') = (reason IS NOT NULL)),
    CONSTRAINT ck_training_clips_times CHECK (start_s >= 0 AND end_s > start_s),
    CONSTRAINT fk_training_clips_job_id
        FOREIGN KEY (job_id) REFERENCES training_jobs (id) ON DELETE CASCADE
);

COMMENT ON TABLE training_clips IS
    'One labelled recording, or a labelled interval of one, and its outcome.';
COMMENT ON COLUMN training_clips.job_id IS 'The training.';
COMMENT ON COLUMN training_clips.clip_index IS '0, 1, 2, ... in the order of the manifest.';
COMMENT ON COLUMN training_clips.file_name IS
    'The client''s name for the file: shown, never used as a path.';
COMMENT ON COLUMN training_clips.label IS 'The noise type.';
COMMENT ON COLUMN training_clips.source IS
    'The source of the clip: clips of one source are never on both sides of a fold.';
COMMENT ON COLUMN training_clips.start_s IS
    'The start of the clip in its file, in seconds; null if the whole file is the clip.';
COMMENT ON COLUMN training_clips.end_s IS
    'The end of the clip in its file, in seconds; null if the whole file is the clip.';
COMMENT ON COLUMN training_clips.blob_key IS
    'The key of the audio; null if it is a session''s recording, or was not uploaded.';
COMMENT ON COLUMN training_clips.session_id IS
    'The session whose recording is the audio. Not a foreign key: the label outlives it.';
COMMENT ON COLUMN training_clips.outcome IS
    'Whether it was used; null until the training has ended.';
COMMENT ON COLUMN training_clips.reason IS 'Why it was not used; null unless it was refused.';


CREATE TABLE validations (
    id                uuid        NOT NULL,
    user_id           uuid,
    model_id          uuid,
    file_key          text,
    labelled          jsonb,
    set_sha256        text,
    report            jsonb,
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

    CONSTRAINT pk_validations PRIMARY KEY (id),
    CONSTRAINT ck_validations_labelled CHECK ((labelled IS NULL) = (set_sha256 IS NULL)),
    CONSTRAINT ck_validations_model CHECK (num_nonnulls(model_id, file_key) > 0),
    CONSTRAINT ck_validations_percent CHECK (percent BETWEEN 0 AND 100),
    CONSTRAINT ck_validations_state CHECK (state IN ('pending', 'completed', 'failed')),
    CONSTRAINT fk_validations_model_id FOREIGN KEY (model_id) REFERENCES noise_models (id),
    CONSTRAINT fk_validations_user_id
        FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE SET NULL
);

COMMENT ON TABLE validations IS 'The validation of a model or of a model file.';
COMMENT ON COLUMN validations.id IS 'The validation''s ID.';
COMMENT ON COLUMN validations.user_id IS
    'The user that the row belongs to; null without one, or if the user was removed.';
COMMENT ON COLUMN validations.model_id IS
    'The model; null for the file of an unregistered model, until it has passed.';
COMMENT ON COLUMN validations.file_key IS
    'The key of the model file; null if a registered model is validated.';
COMMENT ON COLUMN validations.labelled IS
    'The labelled set, recordings with their labels; null to check only integrity.';
COMMENT ON COLUMN validations.set_sha256 IS
    'The hash of the set''s labels and audio: validations with the same hash are comparable.';
COMMENT ON COLUMN validations.report IS 'The checks and figures; null until it has ended.';
COMMENT ON COLUMN validations.created_at IS 'When it was requested.';
COMMENT ON COLUMN validations.started_at IS 'When a worker first claimed it.';
COMMENT ON COLUMN validations.finished_at IS 'When it ended; null until then.';
COMMENT ON COLUMN validations.percent IS 'The progress of the latest claim, from 0 to 100.';
COMMENT ON COLUMN validations.stage IS 'The current stage of the latest claim.';
COMMENT ON COLUMN validations.problem IS
    'Why it failed, as a code and a sentence; null unless it did.';
COMMENT ON COLUMN validations.state IS 'The state; the check constraint has the possible ones.';
COMMENT ON COLUMN validations.attempt IS
    'The number of claims: the fence, since a result is written only for the claim with this '
    'number.';
COMMENT ON COLUMN validations.due_at IS
    'When the row may be claimed next: the end of the lease, or the time of the next try.';
COMMENT ON COLUMN validations.nudged_at IS 'When a message about the row was last sent.';
COMMENT ON COLUMN validations.last_error IS 'Why the last try failed; null if none did.';
COMMENT ON COLUMN validations.uncounted IS
    'Claims that do not count against CLAMOR_MAX_ATTEMPTS: those that ended because a store of '
    'the installation failed, or because the worker lacked the session''s backbone, and those '
    'before a requested retry.';
COMMENT ON COLUMN validations.waits_for_storage IS
    'Whether the latest claim ended for want of storage and no other has followed.';
COMMENT ON COLUMN validations.traceparent IS
    'The traceparent (W3C Trace Context) of the request that created the row; null without '
    'tracing.';

-- model_queries.shared_validations: the newest results of a model by labelled set
CREATE INDEX ix_validations_model_id ON validations (model_id, set_sha256, finished_at);

-- queue_queries.take_stalled, backlogs
CREATE INDEX ix_validations_unfinished ON validations (due_at) WHERE state = 'pending';

-- list_queries.jobs
CREATE INDEX ix_validations_user_created ON validations (user_id, created_at, id);
