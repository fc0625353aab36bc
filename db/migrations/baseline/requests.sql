-- The requests to the API: the log, and those with an Idempotency-Key.


-- partitions.sql creates the partitions, a month each.
CREATE TABLE api_requests (
    id          bigint           NOT NULL GENERATED ALWAYS AS IDENTITY,
    user_id     uuid,
    request_id  text             NOT NULL,
    method      text             NOT NULL,
    route       text             NOT NULL,
    status      smallint         NOT NULL,
    duration_s  double precision NOT NULL,
    bytes_in    bigint           NOT NULL,
    bytes_out   bigint           NOT NULL,
    key_id      text,
    session_id  uuid,
    received_at timestamptz      NOT NULL DEFAULT now(),

    -- It must contain the time, which comes first for request_queries.usage_of_keys of all users.
    CONSTRAINT pk_api_requests PRIMARY KEY (received_at, id),
    CONSTRAINT fk_api_requests_user_id
        FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE SET NULL
) PARTITION BY RANGE (received_at);

COMMENT ON TABLE api_requests IS
    'One request to the HTTP API, with what identifies it to its caller.';
COMMENT ON COLUMN api_requests.id IS 'Numbers the requests.';
COMMENT ON COLUMN api_requests.user_id IS
    'The user of the key; null without a valid key, or if the user was removed.';
COMMENT ON COLUMN api_requests.request_id IS 'The X-Request-ID, as in the log and in the response.';
COMMENT ON COLUMN api_requests.method IS 'The HTTP method.';
COMMENT ON COLUMN api_requests.route IS
    'The template of the route, such as /v1/sessions/{session_id}.';
COMMENT ON COLUMN api_requests.status IS 'The HTTP status of the response.';
COMMENT ON COLUMN api_requests.duration_s IS 'Seconds from the request to the end of the response.';
COMMENT ON COLUMN api_requests.bytes_in IS 'The size of the request''s body in bytes.';
COMMENT ON COLUMN api_requests.bytes_out IS 'The size of the response''s body in bytes.';
COMMENT ON COLUMN api_requests.key_id IS
    'The API key, if it was valid. Not a foreign key: the log entry outlives it.';
COMMENT ON COLUMN api_requests.session_id IS
    'The session that the request is about. Not a foreign key: the log entry outlives it.';
COMMENT ON COLUMN api_requests.received_at IS
    'When the request arrived, by the clock of the database.';

-- request_queries.usage_of_keys of a user
CREATE INDEX ix_api_requests_user_id ON api_requests (user_id, received_at);


CREATE TABLE request_minutes (
    user_id   uuid,
    minute    timestamptz NOT NULL,
    key_id    text        NOT NULL,
    requests  bigint      NOT NULL,
    errors    bigint      NOT NULL,
    bytes_in  bigint      NOT NULL,
    bytes_out bigint      NOT NULL,

    -- request_queries.remove_old_minutes
    CONSTRAINT pk_request_minutes PRIMARY KEY (minute, key_id),
    CONSTRAINT fk_request_minutes_user_id
        FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE SET NULL
) WITH (fillfactor = 50);

COMMENT ON TABLE request_minutes IS
    'The requests of one key in one minute: the sums of its rows in the request log.';
COMMENT ON COLUMN request_minutes.user_id IS
    'The user of the key; null if the user was removed.';
COMMENT ON COLUMN request_minutes.minute IS
    'The beginning of the minute in which the requests arrived.';
COMMENT ON COLUMN request_minutes.key_id IS
    'The API key. Not a foreign key: the sums outlive it.';
COMMENT ON COLUMN request_minutes.requests IS 'The number of requests.';
COMMENT ON COLUMN request_minutes.errors IS
    'Those that were answered with a status of 400 or above.';
COMMENT ON COLUMN request_minutes.bytes_in IS 'The size of their bodies in bytes.';
COMMENT ON COLUMN request_minutes.bytes_out IS
    'The size of the bodies of their responses in bytes.';

-- request_queries.usage_of_user
CREATE INDEX ix_request_minutes_user_id ON request_minutes (user_id, minute);


CREATE TABLE idempotent_requests (
    user_id     uuid        NOT NULL,
    key         text        NOT NULL,
    head_sha256 bytea,
    body_sha256 bytea,
    made_id     uuid        NOT NULL,
    attempt     integer     NOT NULL,
    due_at      timestamptz NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    status      smallint,
    headers     jsonb,
    body        bytea,

    CONSTRAINT pk_idempotent_requests PRIMARY KEY (user_id, key),
    CONSTRAINT ck_idempotent_requests_answered
        CHECK (status IS NULL
            OR (headers IS NOT NULL
            AND head_sha256 IS NOT NULL
            AND body_sha256 IS NOT NULL)),
    CONSTRAINT ck_idempotent_requests_fingerprint
        CHECK (length(head_sha256) = 32 AND length(body_sha256) = 32),
    CONSTRAINT ck_idempotent_requests_key CHECK (length(key) BETWEEN 1 AND 255),
    CONSTRAINT fk_idempotent_requests_user_id
        FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE CASCADE
);

COMMENT ON TABLE idempotent_requests IS 'A request with an Idempotency-Key, and its response.';
COMMENT ON COLUMN idempotent_requests.user_id IS 'The user whose request it is.';
COMMENT ON COLUMN idempotent_requests.key IS 'The Idempotency-Key header.';
COMMENT ON COLUMN idempotent_requests.head_sha256 IS
    'The hash of method, path, query and kind of body; null after a rejection, which does not '
    'bind the key.';
COMMENT ON COLUMN idempotent_requests.body_sha256 IS
    'The hash of the body; null until the body has been read.';
COMMENT ON COLUMN idempotent_requests.made_id IS
    'The ID of the row that the request creates, if any: the same for every attempt.';
COMMENT ON COLUMN idempotent_requests.attempt IS
    'The number of attempts: the fence of the process that handles the request.';
COMMENT ON COLUMN idempotent_requests.due_at IS
    'When another process may take the request over, unless it has a response.';
COMMENT ON COLUMN idempotent_requests.created_at IS
    'When the key was first used; it expires a day later.';
COMMENT ON COLUMN idempotent_requests.status IS
    'The status of the response; null while the request is processed.';
COMMENT ON COLUMN idempotent_requests.headers IS 'The headers of the response.';
COMMENT ON COLUMN idempotent_requests.body IS
    'The body of the response; null if it contained a secret, which is never stored.';

-- idempotency_queries.remove_old_answers
CREATE INDEX ix_idempotent_requests_created_at ON idempotent_requests (created_at);
