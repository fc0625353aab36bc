"""sessions: decoded audio at 32 kHz, and the backbone that named its sounds

Deploy rule: migrations run before the new code. The old code must work on what this leaves
behind, so first expand (add, nullable or with a default), and contract in a later release. Both
columns are nullable without a default: no row is written, and the old code leaves them empty.

Revision: 0029
After: 0028
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0029"
down_revision = "0028"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("audio_sessions", sa.Column("wide_pcm_key", sa.Text(), nullable=True))
    op.add_column("audio_sessions", sa.Column("backbone", sa.Text(), nullable=True))


def downgrade() -> None:
    op.drop_column("audio_sessions", "backbone")
    op.drop_column("audio_sessions", "wide_pcm_key")
