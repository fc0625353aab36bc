"""reports: a table of daily reports, and levels of recordings by quarters of an hour

Deploy rule: migrations run before the new code. The old code must work on what this leaves
behind, so first expand (add, nullable or with a default), and contract in a later release. The
column is null for sessions of before, of which the level of the whole is known.

The index is built while work goes on. That cannot be done in a transaction: if it is interrupted,
the migration can be run again, and begins anew with the index; the rest comes after it, in one.

Revision: 0025
After: 0024
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.get_context().autocommit_block():
        # One that was interrupted is left behind, and is of no use.
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS ix_audio_sessions_heard_at")
        op.create_index(
            "ix_audio_sessions_heard_at",
            "audio_sessions",
            [sa.text("coalesce(recorded_at, created_at)")],
            postgresql_concurrently=True,
        )
    op.add_column(
        "audio_sessions",
        sa.Column("quarter_mean_squares", postgresql.ARRAY(sa.Double()), nullable=True),
    )
    op.create_table(
        "daily_reports",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=True),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("time_zone", sa.Text(), nullable=False),
        sa.Column("starts_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ends_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("report", postgresql.JSONB(), nullable=True),
        sa.Column("made_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("made_from", sa.Text(), nullable=True),
        sa.Column("html_key", sa.Text(), nullable=True),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False
        ),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("percent", sa.SmallInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("stage", sa.Text(), server_default=sa.text("'waiting'"), nullable=False),
        sa.Column("problem", postgresql.JSONB(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempt", sa.SmallInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column(
            "due_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False
        ),
        sa.Column(
            "nudged_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False
        ),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("traceparent", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "state IN ('pending', 'completed', 'failed')", name=op.f("ck_daily_reports_state")
        ),
        sa.CheckConstraint("percent BETWEEN 0 AND 100", name=op.f("ck_daily_reports_percent")),
        sa.CheckConstraint(
            "length(time_zone) BETWEEN 1 AND 64", name=op.f("ck_daily_reports_time_zone")
        ),
        sa.CheckConstraint("ends_at > starts_at", name=op.f("ck_daily_reports_times")),
        sa.CheckConstraint(
            "num_nonnulls(report, made_at, made_from, html_key) IN (0, 4)",
            name=op.f("ck_daily_reports_report"),
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_daily_reports_user_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_daily_reports")),
        sa.UniqueConstraint(
            "day",
            "time_zone",
            "user_id",
            name=op.f("uq_daily_reports_day"),
            postgresql_nulls_not_distinct=True,
        ),
    )
    op.create_index(
        "ix_daily_reports_user_created", "daily_reports", ["user_id", "created_at", "id"]
    )
    op.create_index(
        "ix_daily_reports_unfinished",
        "daily_reports",
        ["due_at"],
        postgresql_where=sa.text("state = 'pending'"),
    )


def downgrade() -> None:
    op.drop_table("daily_reports")
    op.drop_column("audio_sessions", "quarter_mean_squares")
    op.drop_index("ix_audio_sessions_heard_at", table_name="audio_sessions")
