"""spectrogram: where the picture of a recording lies

Deploy rule: migrations run before the new code. The old code must work on what this leaves
behind, so first expand (add, nullable or with a default), and contract in a later release. The
column is nullable: the old code neither writes nor reads it, and its sessions have no picture.

Revision: 0012
After: 0011
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("audio_sessions", sa.Column("spectrogram_key", sa.Text(), nullable=True))


def downgrade() -> None:
    op.drop_column("audio_sessions", "spectrogram_key")
