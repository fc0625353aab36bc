-- Users, their API keys, and what they have used of their limits.


CREATE TABLE users (
    id                    uuid             NOT NULL,
    email                 text             NOT NULL,
    name                  text             NOT NULL,
    created_at            timestamptz      NOT NULL DEFAULT now(),
    disabled_at           timestamptz,
    max_audio_s_per_month double precision,

    CONSTRAINT pk_users PRIMARY KEY (id),
    CONSTRAINT uq_users_email UNIQUE (email),
    CONSTRAINT ck_users_max_audio_s_per_month CHECK (max_audio_s_per_month >= 0)
);

COMMENT ON TABLE users IS 'A user on whose behalf recordings are analysed.';
COMMENT ON COLUMN users.id IS 'The user''s ID.';
COMMENT ON COLUMN users.email IS 'The email address, by which the user is named in commands.';
COMMENT ON COLUMN users.name IS 'The name that is shown.';
COMMENT ON COLUMN users.created_at IS 'When the user was added.';
COMMENT ON COLUMN users.disabled_at IS
    'Since when the user''s keys are refused; null if they are accepted.';
COMMENT ON COLUMN users.max_audio_s_per_month IS
    'Seconds of audio that may be posted for analysis per month; null for the installation''s '
    'default.';


CREATE TABLE api_keys (
    id             text             NOT NULL,
    user_id        uuid             NOT NULL,
    name           text             NOT NULL,
    secret_hash    bytea            NOT NULL,
    scopes         text[]           NOT NULL,
    created_at     timestamptz      NOT NULL DEFAULT now(),
    expires_at     timestamptz,
    revoked_at     timestamptz,
    requests_per_s double precision,

    CONSTRAINT pk_api_keys PRIMARY KEY (id),
    CONSTRAINT ck_api_keys_requests_per_s CHECK (requests_per_s > 0),
    CONSTRAINT ck_api_keys_scopes
        CHECK (cardinality(scopes) > 0
            AND scopes <@ ARRAY[
                'sessions:write', 'sessions:read', 'models:write', 'reports:read', 'admin'
            ]),
    CONSTRAINT ck_api_keys_secret_hash CHECK (length(secret_hash) = 32),
    CONSTRAINT fk_api_keys_user_id FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE CASCADE
);

COMMENT ON TABLE api_keys IS
    'A key that authenticates a service as a user. The secret itself is not stored.';
COMMENT ON COLUMN api_keys.id IS 'The public part of the key, by which it is found.';
COMMENT ON COLUMN api_keys.user_id IS 'The user that requests with this key act for.';
COMMENT ON COLUMN api_keys.name IS 'What the user calls it.';
COMMENT ON COLUMN api_keys.secret_hash IS
    'HMAC-SHA256 of the secret, with the pepper of the API processes.';
COMMENT ON COLUMN api_keys.scopes IS 'What requests with this key may do.';
COMMENT ON COLUMN api_keys.created_at IS 'When it was created.';
COMMENT ON COLUMN api_keys.expires_at IS 'When it stops being accepted; null for never.';
COMMENT ON COLUMN api_keys.revoked_at IS 'When it was revoked; null if it was not.';
COMMENT ON COLUMN api_keys.requests_per_s IS
    'Its rate limit; null for the installation''s default.';

-- account_queries.keys_of, count_active
CREATE INDEX ix_api_keys_user_id ON api_keys (user_id, name);


CREATE TABLE rate_buckets (
    key_id     text             NOT NULL,
    tokens     double precision NOT NULL,
    per_s      double precision NOT NULL,
    burst      double precision NOT NULL,
    settled_at timestamptz      NOT NULL DEFAULT now(),

    CONSTRAINT pk_rate_buckets PRIMARY KEY (key_id),
    CONSTRAINT ck_rate_buckets_rate CHECK (per_s > 0 AND burst >= 1),
    CONSTRAINT fk_rate_buckets_key_id
        FOREIGN KEY (key_id) REFERENCES api_keys (id) ON DELETE CASCADE
);

COMMENT ON TABLE rate_buckets IS
    'The token bucket of one key, as of its last settlement by a process.';
COMMENT ON COLUMN rate_buckets.key_id IS 'The API key.';
COMMENT ON COLUMN rate_buckets.tokens IS
    'The balance. Negative if several processes together spent more before they settled.';
COMMENT ON COLUMN rate_buckets.per_s IS 'Tokens that are added each second.';
COMMENT ON COLUMN rate_buckets.burst IS 'The highest balance.';
COMMENT ON COLUMN rate_buckets.settled_at IS 'When a process last settled.';


CREATE TABLE usage_months (
    user_id  uuid             NOT NULL,
    month    date             NOT NULL,
    audio_s  double precision NOT NULL,
    sessions integer          NOT NULL,

    CONSTRAINT pk_usage_months PRIMARY KEY (user_id, month),
    CONSTRAINT fk_usage_months_user_id
        FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE CASCADE
);

COMMENT ON TABLE usage_months IS
    'A user''s analysed audio of the recordings posted in one calendar month (UTC).';
COMMENT ON COLUMN usage_months.user_id IS 'The user.';
COMMENT ON COLUMN usage_months.month IS 'The first day of the month.';
COMMENT ON COLUMN usage_months.audio_s IS 'Seconds of audio.';
COMMENT ON COLUMN usage_months.sessions IS 'The number of recordings.';
