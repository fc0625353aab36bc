"""The functions and triggers of the schema, beside the tables.

As for tables, a migration creates them, and ``clamor migrate --check`` compares the two. So this is
the source of their text, and the migration that changes one repeats it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Function:
    """A function without arguments."""

    name: str
    returns: str
    language: str
    comment: str
    body: str


@dataclass(frozen=True, kw_only=True)
class Trigger:
    """A trigger for each row."""

    name: str
    table: str
    #: The events, and the condition of rows.
    event: str
    when: str
    #: The function that it executes.
    function: str
    comment: str


FUNCTIONS = (
    Function(
        name="uuid_v7",
        returns="uuid",
        language="sql",
        comment=(
            "A UUID of version 7 (RFC 9562): milliseconds since 1970, then random bits, as"
            " db.ids.new_id, but in no order within a millisecond."
        ),
        body="""
    -- Start from a random UUID of version 4 and replace its first 48 bits by the time. Versions 4
    -- (0100) and 7 (0111) differ in two bits, which set_bit() counts as 52 and 53.
    SELECT encode(
        set_bit(set_bit(overlay(
            uuid_send(gen_random_uuid())
            PLACING substring(
                int8send(floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3
            )
            FROM 1 FOR 6
        ), 52, 1), 53, 1),
        'hex'
    )::uuid
""",
    ),
    Function(
        name="queue_webhook_deliveries",
        returns="trigger",
        language="plpgsql",
        comment="Add a delivery for each webhook that is notified of the session.",
        # The lock of the webhook's key is the one that the foreign key would take a moment later.
        # Taken here it skips a webhook that is being removed, where the foreign key would refuse
        # the end of the session. It neither delays changes of a webhook nor waits for them.
        body="""
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
""",
    ),
)

TRIGGERS = (
    Trigger(
        name="queue_webhook_deliveries",
        table="audio_sessions",
        event="AFTER UPDATE",
        # Evaluated in memory, so that other updates of a session cost nothing more.
        when="OLD.finished_at IS NULL AND NEW.finished_at IS NOT NULL",
        function="queue_webhook_deliveries",
        comment=(
            "Runs in the transaction that ends a session, so that no code that ends one can omit"
            " its deliveries."
        ),
    ),
)
