"""turns and batches: the order of work, and many recordings in one call

Deploy rule: migrations run before the new code. The old code must work on what this leaves
behind, so first expand (add, nullable or with a default), and contract in a later release. The
columns are nullable or have defaults: what the old code takes is of normal priority, in the lane of
all that has no user.

The index of ``session_spans``, a large table, is built while work goes on. That cannot be done in
a transaction, so it comes first: if it is interrupted, the migration can be run again. The index
of ``audio_sessions`` holds unfinished sessions alone; building it takes one look at the table, a
row a recording, for which uploads wait.

Revision: 0006
After: 0005
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.get_context().autocommit_block():
        # One that was interrupted is left behind, and is of no use.
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS ix_session_spans_pending")
        op.create_index(
            "ix_session_spans_pending",
            "session_spans",
            ["session_id", "span_index"],
            unique=False,
            postgresql_where=sa.text("state = 'pending'"),
            postgresql_concurrently=True,
        )
    op.create_table(
        "turns",
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("priority", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column(
            "lane",
            sa.Uuid(),
            server_default=sa.text("'00000000-0000-0000-0000-000000000000'"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("state", "priority", name=op.f("pk_turns")),
    )
    op.execute(
        "INSERT INTO turns (state, priority) SELECT state, priority"
        " FROM unnest(ARRAY['queued', 'splitting', 'detecting', 'aggregating']) AS state,"
        " generate_series(0, 2) AS priority"
    )
    op.add_column(
        "audio_sessions",
        sa.Column("priority", sa.SmallInteger(), server_default=sa.text("1"), nullable=False),
    )
    op.add_column(
        "audio_sessions",
        sa.Column(
            "lane",
            sa.Uuid(),
            server_default=sa.text("'00000000-0000-0000-0000-000000000000'"),
            nullable=False,
        ),
    )
    op.create_check_constraint(
        op.f("ck_audio_sessions_priority"), "audio_sessions", "priority IN (0, 1, 2)"
    )
    op.create_index(
        "ix_audio_sessions_turn",
        "audio_sessions",
        ["state", "priority", "lane", "created_at", "id"],
        unique=False,
        postgresql_where=sa.text("state IN ('queued', 'splitting', 'detecting', 'aggregating')"),
    )
    _create_batches()


def _create_batches() -> None:
    op.create_table(
        "batches",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=True),
        sa.Column("priority", sa.SmallInteger(), server_default=sa.text("1"), nullable=False),
        sa.Column("options", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("prefix", sa.Text(), nullable=True),
        sa.Column("items_total", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("next_item", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("problem", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempt", sa.SmallInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column(
            "due_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.Column(
            "nudged_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "state IN ('receiving', 'listing', 'expanding', 'taken', 'failed', 'cancelled')",
            name=op.f("ck_batches_state"),
        ),
        sa.CheckConstraint("next_item BETWEEN 0 AND items_total", name=op.f("ck_batches_items")),
        sa.CheckConstraint("priority IN (0, 1, 2)", name=op.f("ck_batches_priority")),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_batches_user_id"), ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_batches")),
    )
    op.create_index("ix_batches_user_id", "batches", ["user_id"], unique=False)
    op.create_index(
        "ix_batches_unfinished",
        "batches",
        ["due_at"],
        unique=False,
        postgresql_where=sa.text("state IN ('receiving', 'listing', 'expanding')"),
    )
    op.create_table(
        "batch_items",
        sa.Column("batch_id", sa.Uuid(), nullable=False),
        sa.Column("item_index", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("file_name", sa.Text(), nullable=False),
        sa.Column("source_key", sa.Text(), nullable=True),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("session_id", sa.Uuid(), nullable=True),
        sa.CheckConstraint("outcome IN ('taken', 'refused')", name=op.f("ck_batch_items_outcome")),
        sa.CheckConstraint(
            "(outcome = 'refused') = (reason IS NOT NULL)", name=op.f("ck_batch_items_reason")
        ),
        sa.ForeignKeyConstraint(
            ["batch_id"], ["batches.id"], name=op.f("fk_batch_items_batch_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["session_id"],
            ["audio_sessions.id"],
            name=op.f("fk_batch_items_session_id"),
            ondelete="SET NULL",
        ),
        sa.PrimaryKeyConstraint("batch_id", "item_index", name=op.f("pk_batch_items")),
        sa.UniqueConstraint("session_id", name=op.f("uq_batch_items_session_id")),
    )
    op.add_column("audio_sessions", sa.Column("batch_id", sa.Uuid(), nullable=True))
    op.create_foreign_key(
        op.f("fk_audio_sessions_batch_id"), "audio_sessions", "batches", ["batch_id"], ["id"]
    )
    op.create_index(
        "ix_audio_sessions_batch_id",
        "audio_sessions",
        ["batch_id"],
        unique=False,
        postgresql_where=sa.text("batch_id IS NOT NULL"),
    )


def downgrade() -> None:
    op.drop_index("ix_audio_sessions_batch_id", table_name="audio_sessions")
    op.drop_constraint(op.f("fk_audio_sessions_batch_id"), "audio_sessions", type_="foreignkey")
    op.drop_column("audio_sessions", "batch_id")
    op.drop_table("batch_items")
    op.drop_table("batches")
    op.drop_index("ix_audio_sessions_turn", table_name="audio_sessions")
    op.drop_constraint(op.f("ck_audio_sessions_priority"), "audio_sessions", type_="check")
    op.drop_column("audio_sessions", "lane")
    op.drop_column("audio_sessions", "priority")
    op.drop_table("turns")
    op.drop_index("ix_session_spans_pending", table_name="session_spans")
