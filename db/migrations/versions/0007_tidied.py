"""tidied: when what was left over of a session was removed for good

Deploy rule: migrations run before the new code. The old code must work on what this leaves
behind, so first expand (add, nullable or with a default), and contract in a later release. The
column is null for every session of before: each is tidied once, some hundred a round.

Revision: 0007
After: 0006
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "audio_sessions", sa.Column("tidied_at", sa.DateTime(timezone=True), nullable=True)
    )
    op.create_index(
        "ix_audio_sessions_finished",
        "audio_sessions",
        ["finished_at"],
        unique=False,
        postgresql_where=sa.text("tidied_at IS NULL AND finished_at IS NOT NULL"),
    )


def downgrade() -> None:
    op.drop_index(
        "ix_audio_sessions_finished",
        table_name="audio_sessions",
        postgresql_where=sa.text("tidied_at IS NULL AND finished_at IS NOT NULL"),
    )
    op.drop_column("audio_sessions", "tidied_at")
