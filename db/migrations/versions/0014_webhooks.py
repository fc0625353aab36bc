"""webhooks: who is told of the ends of sessions, and the outbox of what they are told

Deploy rule: migrations run before the new code. The old code must work on what this leaves
behind, so first expand (add, nullable or with a default), and contract in a later release. The
column is nullable, and the trigger writes nothing while there are no webhooks.

The trigger runs in the transaction that ends a session, whoever ends it, and adds a delivery for
each webhook that hears of the session. Its condition is looked at in memory, so that other updates
of a session (progress, claims) cost nothing more. Creating it waits for writers of
``audio_sessions`` and lets them wait, for a moment: it comes last.

Revision: 0014
After: 0013
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

#: The lock of the webhook's key is what the foreign key would take a moment later. Taken here it
#: leaves out a webhook that is being removed, where the foreign key would refuse the session's end.
#: It does not wait for those who change a webhook, nor they for it.
#: A session of nobody's, and one whose user is disabled, is told to nobody.
TELL = """
CREATE FUNCTION tell_webhooks_of_session() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO webhook_deliveries (id, webhook_id, type, session_id)
    SELECT gen_random_uuid(), webhooks.id, 'session.' || NEW.state, NEW.id
    FROM webhooks
    JOIN users ON users.id = webhooks.user_id
    WHERE webhooks.user_id = NEW.user_id
      AND (webhooks.all_sessions OR webhooks.id = NEW.webhook_id)
      AND webhooks.state = 'active'
      AND users.disabled_at IS NULL
    FOR KEY SHARE OF webhooks;
    RETURN NULL;
END
$$
"""
TRIGGER = """
CREATE TRIGGER tell_webhooks AFTER UPDATE ON audio_sessions
FOR EACH ROW WHEN (OLD.finished_at IS NULL AND NEW.finished_at IS NOT NULL)
EXECUTE FUNCTION tell_webhooks_of_session()
"""


def upgrade() -> None:
    _create_webhooks()
    _create_deliveries()
    op.execute(TELL)
    op.add_column("audio_sessions", sa.Column("webhook_id", sa.Uuid(), nullable=True))
    op.execute(TRIGGER)


def _create_webhooks() -> None:
    op.create_table(
        "webhooks",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("all_sessions", sa.Boolean(), nullable=False),
        sa.Column("secret", sa.Text(), nullable=False),
        sa.Column("old_secret", sa.Text(), nullable=True),
        sa.Column("old_secret_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False
        ),
        sa.Column("failures", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("failing_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("disabled_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("disabled_reason", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempt", sa.SmallInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column(
            "due_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False
        ),
        sa.Column(
            "nudged_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False
        ),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.CheckConstraint("state IN ('active', 'disabled')", name=op.f("ck_webhooks_state")),
        sa.CheckConstraint(
            "(state = 'disabled') = (disabled_at IS NOT NULL)"
            " AND (state = 'disabled') = (disabled_reason IS NOT NULL)",
            name=op.f("ck_webhooks_disabled"),
        ),
        sa.CheckConstraint(
            "(old_secret IS NULL) = (old_secret_until IS NULL)",
            name=op.f("ck_webhooks_old_secret"),
        ),
        sa.CheckConstraint(
            "failures >= 0 AND (failures = 0) = (failing_since IS NULL)",
            name=op.f("ck_webhooks_failures"),
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_webhooks_user_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhooks")),
    )
    op.create_index("ix_webhooks_user_id", "webhooks", ["user_id", "created_at"])


def _create_deliveries() -> None:
    op.create_table(
        "webhook_deliveries",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("webhook_id", sa.Uuid(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("session_id", sa.Uuid(), nullable=True),
        sa.Column("state", sa.Text(), server_default=sa.text("'pending'"), nullable=False),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False
        ),
        sa.Column(
            "next_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False
        ),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("tries", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("round_start", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column(
            "log",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'[]'"),
            nullable=False,
        ),
        sa.CheckConstraint(
            "state IN ('pending', 'delivered', 'failed')",
            name=op.f("ck_webhook_deliveries_state"),
        ),
        sa.CheckConstraint(
            "tries >= round_start AND round_start >= 0", name=op.f("ck_webhook_deliveries_tries")
        ),
        sa.CheckConstraint(
            "(type = 'ping') = (session_id IS NULL)", name=op.f("ck_webhook_deliveries_session")
        ),
        sa.ForeignKeyConstraint(
            ["webhook_id"],
            ["webhooks.id"],
            name=op.f("fk_webhook_deliveries_webhook_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_deliveries")),
    )
    op.create_index(
        "ix_webhook_deliveries_log", "webhook_deliveries", ["webhook_id", "created_at", "id"]
    )
    op.create_index(
        "ix_webhook_deliveries_pending",
        "webhook_deliveries",
        ["webhook_id", "next_at"],
        postgresql_where=sa.text("state = 'pending'"),
    )
    op.create_index("ix_webhook_deliveries_created_at", "webhook_deliveries", ["created_at"])


def downgrade() -> None:
    op.execute("DROP TRIGGER tell_webhooks ON audio_sessions")
    op.drop_column("audio_sessions", "webhook_id")
    op.execute("DROP FUNCTION tell_webhooks_of_session()")
    op.drop_table("webhook_deliveries")
    op.drop_table("webhooks")
