"""sessions: which channels of a recording are measured and analysed

Deploy rule: migrations run before the new code. The old code must work on what this leaves
behind, so first expand (add, nullable or with a default), and contract in a later release. The
column has a constant default, so that no row is rewritten: existing sessions, and those that the
old code adds, use the energy mean of all channels. A worker of the release before ignores the
column.

Reading the table for the check does not block writes, but cannot be done in one transaction with the rest.
If the migration is interrupted, it can be run again.

Revision: 0037
After: 0036
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0037"
down_revision = "0036"
branch_labels = None
depends_on = None

CHECK = "ck_audio_sessions_channel"


def upgrade() -> None:
    op.add_column(
        "audio_sessions",
        sa.Column("channel", sa.Text(), server_default=sa.text("'energy_mean'"), nullable=False),
        if_not_exists=True,
    )
    op.execute(f"ALTER TABLE audio_sessions DROP CONSTRAINT IF EXISTS {CHECK}")
    op.execute(
        f"ALTER TABLE audio_sessions ADD CONSTRAINT {CHECK}"
        " CHECK (channel ~ '^(energy_mean|loudest|[1-9][0-9]?)$') NOT VALID"
    )
    with op.get_context().autocommit_block():
        op.execute(f"ALTER TABLE audio_sessions VALIDATE CONSTRAINT {CHECK}")


def downgrade() -> None:
    op.drop_column("audio_sessions", "channel")
