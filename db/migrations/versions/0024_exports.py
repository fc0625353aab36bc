"""exports: events written to files

Deploy rule: migrations run before the new code. The old code must work on what this leaves
behind, so first expand (add, nullable or with a default), and contract in a later release. This
one adds a table.

Revision: 0024
After: 0023
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None

FORMATS = "'csv', 'ndjson', 'parquet', 'audacity', 'raven', 'dcase', 'rttm', 'clips'"


def upgrade() -> None:
    now = sa.func.now()
    op.create_table(
        "exports",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("format", sa.Text(), nullable=False),
        sa.Column("selection", postgresql.JSONB(), nullable=False),
        sa.Column("all_users", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("session_id", sa.Uuid(), nullable=True),
        sa.Column("rows_written", sa.BigInteger(), nullable=True),
        sa.Column("size_bytes", sa.BigInteger(), nullable=True),
        sa.Column("blob_key", sa.Text(), nullable=True),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=now, nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("percent", sa.SmallInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("stage", sa.Text(), server_default=sa.text("'waiting'"), nullable=False),
        sa.Column("problem", postgresql.JSONB(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempt", sa.SmallInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), server_default=now, nullable=False),
        sa.Column("nudged_at", sa.DateTime(timezone=True), server_default=now, nullable=False),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("user_id", sa.Uuid(), nullable=True),
        sa.Column("traceparent", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "state IN ('pending', 'completed', 'failed')", name=op.f("ck_exports_state")
        ),
        sa.CheckConstraint(f"format IN ({FORMATS})", name=op.f("ck_exports_format")),
        sa.CheckConstraint("percent BETWEEN 0 AND 100", name=op.f("ck_exports_percent")),
        sa.CheckConstraint("jsonb_typeof(selection) = 'object'", name=op.f("ck_exports_selection")),
        sa.CheckConstraint(
            "(state = 'completed') = (blob_key IS NOT NULL)", name=op.f("ck_exports_file")
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_exports_user_id"), ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_exports")),
    )
    op.create_index("ix_exports_user_created", "exports", ["user_id", "created_at", "id"])
    op.create_index("ix_exports_expires_at", "exports", ["expires_at"])
    op.create_index(
        "ix_exports_session_id",
        "exports",
        ["session_id"],
        postgresql_where=sa.text("session_id IS NOT NULL"),
    )
    op.create_index(
        "ix_exports_unfinished",
        "exports",
        ["due_at"],
        postgresql_where=sa.text("state = 'pending'"),
    )


def downgrade() -> None:
    op.drop_table("exports")
