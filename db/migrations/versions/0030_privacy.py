"""privacy: which noise types a session reports, and what becomes of its speech

Deploy rule: migrations run before the new code. The old code must work on what this leaves
behind, so first expand (add, nullable or with a default), and contract in a later release. The
columns are nullable or have a constant default, so that no row is rewritten. A worker of the
release before reports all types and mutes nothing; the API serves no audio of such a session, and
the new workers remove it.

Reading the table for the check, and building the index, block nobody, but cannot be done in one
transaction with the rest. If the migration is interrupted, it can be run again.

Revision: 0030
After: 0029
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0030"
down_revision = "0029"
branch_labels = None
depends_on = None

CHECK = "ck_audio_sessions_privacy"
INDEX = "ix_audio_sessions_private"


def upgrade() -> None:
    for column in (
        sa.Column(
            "types", postgresql.ARRAY(sa.Text()), server_default=sa.text("'{}'"), nullable=False
        ),
        sa.Column("privacy", sa.Text(), server_default=sa.text("'keep'"), nullable=False),
        sa.Column("muted_key", sa.Text(), nullable=True),
        sa.Column("audio_removed_at", sa.DateTime(timezone=True), nullable=True),
    ):
        op.add_column("audio_sessions", column, if_not_exists=True)
    op.execute(f"ALTER TABLE audio_sessions DROP CONSTRAINT IF EXISTS {CHECK}")
    op.execute(
        f"ALTER TABLE audio_sessions ADD CONSTRAINT {CHECK}"
        " CHECK (privacy IN ('keep', 'mute', 'discard_audio')) NOT VALID"
    )
    with op.get_context().autocommit_block():
        op.execute(f"ALTER TABLE audio_sessions VALIDATE CONSTRAINT {CHECK}")
        # One that was interrupted is left behind, and is of no use.
        op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {INDEX}")
        op.create_index(
            INDEX,
            "audio_sessions",
            ["finished_at"],
            postgresql_where=sa.text(
                "privacy <> 'keep' AND audio_removed_at IS NULL AND finished_at IS NOT NULL"
            ),
            postgresql_concurrently=True,
        )


def downgrade() -> None:
    op.drop_index(INDEX, table_name="audio_sessions")
    for name in ("audio_removed_at", "muted_key", "privacy", "types"):
        op.drop_column("audio_sessions", name)
