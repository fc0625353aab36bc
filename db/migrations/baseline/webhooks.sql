-- Webhooks and their deliveries. The database itself creates the deliveries of a session that ends.


CREATE TABLE webhooks (
    id                uuid        NOT NULL,
    user_id           uuid        NOT NULL,
    url               text        NOT NULL,
    all_sessions      boolean     NOT NULL,
    secret            text        NOT NULL,
    old_secret        text,
    old_secret_until  timestamptz,
    created_at        timestamptz NOT NULL DEFAULT now(),
    failures          integer     NOT NULL DEFAULT 0,
    failing_since     timestamptz,
    disabled_at       timestamptz,
    disabled_reason   text,
    state             text        NOT NULL,
    attempt           smallint    NOT NULL DEFAULT 0,
    due_at            timestamptz NOT NULL DEFAULT now(),
    nudged_at         timestamptz NOT NULL DEFAULT now(),
    last_error        text,
    uncounted         smallint    NOT NULL DEFAULT 0,
    waits_for_storage boolean     NOT NULL DEFAULT false,

    CONSTRAINT pk_webhooks PRIMARY KEY (id),
    CONSTRAINT ck_webhooks_disabled
        CHECK ((state = 'disabled') = (disabled_at IS NOT NULL)
            AND (state = 'disabled') = (disabled_reason IS NOT NULL)),
    CONSTRAINT ck_webhooks_failures
        CHECK (failures >= 0 AND (failures = 0) = (failing_since IS NULL)),
    CONSTRAINT ck_webhooks_old_secret CHECK ((old_secret IS NULL) = (old_secret_until IS NULL)),
    CONSTRAINT ck_webhooks_state CHECK (state IN ('active', 'disabled')),
    CONSTRAINT fk_webhooks_user_id FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE CASCADE
);

COMMENT ON TABLE webhooks IS 'A user''s URL that is notified of the end of their sessions.';
COMMENT ON COLUMN webhooks.id IS 'The webhook''s ID.';
COMMENT ON COLUMN webhooks.user_id IS 'The user whose sessions it is about.';
COMMENT ON COLUMN webhooks.url IS 'The URL that is requested.';
COMMENT ON COLUMN webhooks.all_sessions IS
    'Whether it is notified of all of the user''s sessions, or only of those that name it.';
COMMENT ON COLUMN webhooks.secret IS
    'The secret that signs, encrypted with a key of CLAMOR_SECRET_KEYS; shown only once.';
COMMENT ON COLUMN webhooks.old_secret IS
    'The previous secret, encrypted, which also signs until old_secret_until.';
COMMENT ON COLUMN webhooks.old_secret_until IS 'When the previous secret stops signing.';
COMMENT ON COLUMN webhooks.created_at IS 'When it was registered.';
COMMENT ON COLUMN webhooks.failures IS 'The number of consecutive failures over all deliveries.';
COMMENT ON COLUMN webhooks.failing_since IS
    'The time of the first of these failures; null without any.';
COMMENT ON COLUMN webhooks.disabled_at IS 'When it was disabled; null if it is active.';
COMMENT ON COLUMN webhooks.disabled_reason IS 'Why it was disabled; null if it is active.';
COMMENT ON COLUMN webhooks.state IS 'The state; the check constraint has the possible ones.';
COMMENT ON COLUMN webhooks.attempt IS
    'The number of claims: the fence, since a result is written only for the claim with this '
    'number.';
COMMENT ON COLUMN webhooks.due_at IS
    'When the row may be claimed next: the end of the lease, or the time of the next try.';
COMMENT ON COLUMN webhooks.nudged_at IS 'When a message about the row was last sent.';
COMMENT ON COLUMN webhooks.last_error IS 'Why the last try failed; null if none did.';
COMMENT ON COLUMN webhooks.uncounted IS
    'Claims that do not count against CLAMOR_MAX_ATTEMPTS: those that ended because a store of '
    'the installation failed, or because the worker lacked the session''s backbone, and those '
    'before a requested retry.';
COMMENT ON COLUMN webhooks.waits_for_storage IS
    'Whether the latest claim ended for want of storage and no other has followed.';

-- webhook_queries.webhooks, count_webhooks; queue_webhook_deliveries, when a session ends
CREATE INDEX ix_webhooks_user_id ON webhooks (user_id, created_at);


CREATE TABLE webhook_deliveries (
    id          uuid        NOT NULL,
    webhook_id  uuid        NOT NULL,
    type        text        NOT NULL,
    session_id  uuid,
    state       text        NOT NULL DEFAULT 'pending',
    created_at  timestamptz NOT NULL DEFAULT now(),
    next_at     timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    tries       integer     NOT NULL DEFAULT 0,
    round_start integer     NOT NULL DEFAULT 0,
    log         jsonb       NOT NULL DEFAULT '[]',

    CONSTRAINT pk_webhook_deliveries PRIMARY KEY (id),
    CONSTRAINT ck_webhook_deliveries_session CHECK ((type = 'ping') = (session_id IS NULL)),
    CONSTRAINT ck_webhook_deliveries_state CHECK (state IN ('pending', 'delivered', 'failed')),
    CONSTRAINT ck_webhook_deliveries_tries CHECK (tries >= round_start AND round_start >= 0),
    CONSTRAINT fk_webhook_deliveries_webhook_id
        FOREIGN KEY (webhook_id) REFERENCES webhooks (id) ON DELETE CASCADE
);

COMMENT ON TABLE webhook_deliveries IS 'One delivery to a webhook, with its tries.';
COMMENT ON COLUMN webhook_deliveries.id IS 'The delivery''s ID: the webhook-id of each try.';
COMMENT ON COLUMN webhook_deliveries.webhook_id IS 'The webhook.';
COMMENT ON COLUMN webhook_deliveries.type IS
    'The type of the event: session. and the final state, or ping.';
COMMENT ON COLUMN webhook_deliveries.session_id IS
    'The session; null for a ping. Not a foreign key: the delivery outlives its session.';
COMMENT ON COLUMN webhook_deliveries.state IS
    'Whether it waits for a try, was delivered, or was given up.';
COMMENT ON COLUMN webhook_deliveries.created_at IS
    'When the session ended, or the ping was requested.';
COMMENT ON COLUMN webhook_deliveries.next_at IS 'The time of the next try, if it is pending.';
COMMENT ON COLUMN webhook_deliveries.finished_at IS
    'When it was delivered or given up; null until then.';
COMMENT ON COLUMN webhook_deliveries.tries IS
    'The number of tries. It never falls, as it is part of the fence.';
COMMENT ON COLUMN webhook_deliveries.round_start IS
    'The number of tries before the current round, which a replay begins.';
COMMENT ON COLUMN webhook_deliveries.log IS 'The last tries, the oldest first.';

-- delivery_queries.remove_old_deliveries
CREATE INDEX ix_webhook_deliveries_created_at ON webhook_deliveries (created_at);

-- delivery_queries.deliveries
CREATE INDEX ix_webhook_deliveries_log ON webhook_deliveries (webhook_id, created_at, id);

-- webhook_queries.take_delivery, is_due_again; queue_queries.take_stalled: the next delivery of a
-- webhook
CREATE INDEX ix_webhook_deliveries_pending
    ON webhook_deliveries (webhook_id, next_at) WHERE state = 'pending';


-- FOR KEY SHARE takes the lock that the foreign key would take a moment later. Taken here it skips
-- a webhook that is being removed, where the foreign key would refuse the end of the session. It
-- neither delays changes of a webhook nor waits for them.
CREATE FUNCTION queue_webhook_deliveries() RETURNS trigger LANGUAGE plpgsql
SET search_path FROM CURRENT AS $$
BEGIN
    INSERT INTO webhook_deliveries (id, webhook_id, type, session_id)
    SELECT uuid_v7(), webhooks.id, 'session.' || NEW.state, NEW.id
    FROM webhooks
    JOIN users ON users.id = webhooks.user_id
    WHERE webhooks.user_id = NEW.user_id
      AND (webhooks.all_sessions OR webhooks.id = NEW.webhook_id)
      AND webhooks.state = 'active'
      AND users.disabled_at IS NULL
    FOR KEY SHARE OF webhooks;
    RETURN NULL;
END
$$;

COMMENT ON FUNCTION queue_webhook_deliveries() IS
    'Add a delivery for each webhook that is notified of the session.';

-- The condition is evaluated in memory, so that other updates of a session cost nothing more.
CREATE TRIGGER queue_webhook_deliveries AFTER UPDATE ON audio_sessions
    FOR EACH ROW WHEN (NEW.state IN ('completed', 'partial', 'failed', 'cancelled')
        AND NOT OLD.state IN ('completed', 'partial', 'failed', 'cancelled'))
    EXECUTE FUNCTION queue_webhook_deliveries();

COMMENT ON TRIGGER queue_webhook_deliveries ON audio_sessions IS
    'Runs in the transaction that ends a session, so that no code that ends one can omit its '
    'deliveries.';
