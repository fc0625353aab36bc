"""recorded: lists by when and with what sessions were recorded

Deploy rule: migrations run before the new code. The old code must work on what this leaves
behind, so first expand (add, nullable or with a default), and contract in a later release. The
indexes are built while work goes on; if that is interrupted, the migration can be run again.

Revision: 0023
After: 0022
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.get_context().autocommit_block():
        # One that was interrupted is left behind, and is of no use.
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS ix_audio_sessions_user_recorded")
        op.create_index(
            "ix_audio_sessions_user_recorded",
            "audio_sessions",
            ["user_id", "recorded_at", "id"],
            unique=False,
            postgresql_concurrently=True,
        )
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS ix_audio_sessions_metadata")
        op.create_index(
            "ix_audio_sessions_metadata",
            "audio_sessions",
            ["user_metadata"],
            unique=False,
            postgresql_using="gin",
            postgresql_ops={"user_metadata": "jsonb_path_ops"},
            postgresql_where=sa.text("user_metadata <> '{}'"),
            postgresql_concurrently=True,
        )


def downgrade() -> None:
    op.drop_index("ix_audio_sessions_metadata", table_name="audio_sessions")
    op.drop_index("ix_audio_sessions_user_recorded", table_name="audio_sessions")
