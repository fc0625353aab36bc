"""The functions and triggers of the schema, beside the tables.

As for tables, a migration creates them, and ``clamor migrate --check`` compares the two. So this is
the source of their text, and the migration that changes one repeats it.
"""

from __future__ import annotations

from dataclasses import dataclass

from db.tables.base import one_of
from db.tables.session_results import FINAL_STATES


@dataclass(frozen=True, kw_only=True)
class Function:
    """A function."""

    name: str
    arguments: str = ""
    returns: str
    language: str
    #: What stands before the body.
    options: str = ""
    comment: str
    body: str


#: Functions that use tables keep the search path of their creation: a session with another one,
#: such as an administrator's, can call them, and cannot make them find other tables.
_OWN_PATH = "SET search_path FROM CURRENT"
#: Those that change tables run as the owner of these, whatever the role of their caller.
_AS_OWNER = f"SECURITY DEFINER {_OWN_PATH} SET timezone = 'UTC'"


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
        options=_OWN_PATH,
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
    Function(
        name="create_partitions",
        returns="SETOF text",
        language="plpgsql",
        # No reader or writer of the table queues behind the lock.
        options=f"{_AS_OWNER} SET lock_timeout = '5s'",
        comment=(
            "Create the missing partitions of this month and the next three; return their names."
            " Months are those of UTC. Runs as its owner."
        ),
        body="""
DECLARE
    parent text;
    begins timestamptz;
    part text;
BEGIN
    FOR parent, begins IN
        SELECT name, month
        FROM unnest(ARRAY['api_requests', 'processing_metrics']) AS name
        CROSS JOIN generate_series(
            date_trunc('month', now()), now() + interval '3 months', interval '1 month'
        ) AS month
    LOOP
        part := parent || to_char(begins, '_YYYY_MM');
        CONTINUE WHEN EXISTS (
            SELECT FROM pg_inherits WHERE inhrelid = to_regclass(quote_ident(part))
        );
        -- Another process may be creating it, and have finished when this one has the lock.
        EXECUTE format('LOCK TABLE ONLY %I IN SHARE UPDATE EXCLUSIVE MODE', parent);
        CONTINUE WHEN EXISTS (
            SELECT FROM pg_inherits WHERE inhrelid = to_regclass(quote_ident(part))
        );
        -- CREATE TABLE ... PARTITION OF would wait for every transaction that uses the table.
        EXECUTE format(
            'CREATE TABLE %I (LIKE %I INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', part, parent
        );
        EXECUTE format(
            'ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
            parent, part, begins, begins + interval '1 month'
        );
        RETURN NEXT part;
    END LOOP;
END
""",
    ),
    Function(
        name="drop_partition",
        arguments="parent text, kept interval",
        returns="text",
        language="plpgsql",
        # All of them queue behind this one.
        options=f"{_AS_OWNER} SET lock_timeout = '200ms'",
        comment=(
            "Drop the oldest partition of a table if all its rows are older than this; return its"
            " name, or null. Runs as its owner."
        ),
        body=r"""
DECLARE
    part text;
BEGIN
    SELECT oid::regclass INTO part
    FROM pg_class
    JOIN pg_inherits ON inhrelid = oid
    CROSS JOIN LATERAL CAST(
        substring(pg_get_expr(relpartbound, oid) FROM 'TO \(''([^'']+)''\)') AS timestamptz
    ) AS ends
    WHERE parent IN ('api_requests', 'processing_metrics') AND inhparent = to_regclass(parent)
      -- Nothing of this month, whatever the caller asks for.
      AND ends <= least(now() - kept, now())
    ORDER BY ends LIMIT 1;
    IF part IS NOT NULL THEN
        EXECUTE 'DROP TABLE ' || part;
    END IF;
    RETURN part;
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
        when=(f"NEW.{one_of('state', FINAL_STATES)} AND NOT OLD.{one_of('state', FINAL_STATES)}"),
        function="queue_webhook_deliveries",
        comment=(
            "Runs in the transaction that ends a session, so that no code that ends one can omit"
            " its deliveries."
        ),
    ),
)
