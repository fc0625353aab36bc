"""progress: how far the stage of a session is, and since when

Deploy rule: migrations run before the new code. The old code must work on what this leaves
behind, so first expand (add, nullable or with a default), and contract in a later release. All
columns are nullable or have a default: the old code neither writes nor reads them.

Revision: 0008
After: 0007
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "audio_sessions",
        sa.Column("stage_share", sa.Double(), server_default=sa.text("0"), nullable=False),
    )
    for name in ("stage_since", "stage_told_at"):
        op.add_column("audio_sessions", sa.Column(name, sa.DateTime(timezone=True), nullable=True))
    op.create_check_constraint(
        op.f("ck_audio_sessions_stage_share"), "audio_sessions", "stage_share BETWEEN 0 AND 1"
    )
    op.add_column(
        "session_spans", sa.Column("started_at", sa.DateTime(timezone=True), nullable=True)
    )


def downgrade() -> None:
    op.drop_column("session_spans", "started_at")
    op.drop_constraint(op.f("ck_audio_sessions_stage_share"), "audio_sessions", type_="check")
    for name in ("stage_told_at", "stage_since", "stage_share"):
        op.drop_column("audio_sessions", name)
