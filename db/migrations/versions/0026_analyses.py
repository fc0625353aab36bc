"""analyses: what a session that has ended comes to

Deploy rule: migrations run before the new code. The old code must work on what this leaves
behind, so first expand (add, nullable or with a default), and contract in a later release. The
table is new. Its foreign key waits for writers of ``audio_sessions`` and lets them wait, for a
moment. Sessions that ended before have no analysis until one is asked for.

Revision: 0026
After: 0025
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None


def upgrade() -> None:
    now, json = sa.func.now(), postgresql.JSONB(astext_type=sa.Text())
    time = sa.DateTime(timezone=True)
    op.create_table(
        "analyses",
        sa.Column("session_id", sa.Uuid(), nullable=False),
        sa.Column("asking_id", sa.Uuid(), nullable=False),
        sa.Column("limits_db", json, server_default=sa.text("'{}'"), nullable=False),
        sa.Column("result", json, nullable=True),
        sa.Column("created_at", time, server_default=now, nullable=False),
        sa.Column("started_at", time, nullable=True),
        sa.Column("finished_at", time, nullable=True),
        sa.Column("percent", sa.SmallInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("stage", sa.Text(), server_default=sa.text("'waiting'"), nullable=False),
        sa.Column("problem", json, nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempt", sa.SmallInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("due_at", time, server_default=now, nullable=False),
        sa.Column("nudged_at", time, server_default=now, nullable=False),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("traceparent", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "state IN ('pending', 'completed', 'failed')", name=op.f("ck_analyses_state")
        ),
        sa.CheckConstraint("percent BETWEEN 0 AND 100", name=op.f("ck_analyses_percent")),
        sa.CheckConstraint(
            "jsonb_typeof(limits_db) = 'object'", name=op.f("ck_analyses_limits_db")
        ),
        sa.CheckConstraint(
            "(state = 'completed') = (result IS NOT NULL)", name=op.f("ck_analyses_result")
        ),
        sa.ForeignKeyConstraint(
            ["session_id"],
            ["audio_sessions.id"],
            name=op.f("fk_analyses_session_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("session_id", name=op.f("pk_analyses")),
        sa.UniqueConstraint("asking_id", name=op.f("uq_analyses_asking_id")),
    )
    op.create_index(
        "ix_analyses_unfinished",
        "analyses",
        ["due_at"],
        postgresql_where=sa.text("state = 'pending'"),
    )


def downgrade() -> None:
    op.drop_table("analyses")
