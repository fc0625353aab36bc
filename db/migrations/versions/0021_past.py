"""past: find the sessions that are too old to be kept

Deploy rule: migrations run before the new code. The old code must work on what this leaves
behind, so first expand (add, nullable or with a default), and contract in a later release. The
index is built beside the traffic, in a migration of its own: one that is interrupted leaves nothing
else half done.

Revision: 0021
After: 0020
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.get_context().autocommit_block():
        # One that was interrupted is left behind, and is of no use.
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS ix_audio_sessions_past")
        op.create_index(
            "ix_audio_sessions_past",
            "audio_sessions",
            ["finished_at"],
            postgresql_where=sa.text("finished_at IS NOT NULL AND NOT legal_hold"),
            postgresql_concurrently=True,
        )


def downgrade() -> None:
    op.drop_index("ix_audio_sessions_past", table_name="audio_sessions")
