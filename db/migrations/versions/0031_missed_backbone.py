"""sessions: the hash of their backbone, and since when they wait for a worker that has it

Deploy rule: migrations run before the new code. The old code must work on what this leaves
behind, so first expand (add, nullable or with a default), and contract in a later release. Both
columns are nullable without a default: no row is written, and the old code leaves them empty. A
session that the old code split may be named by any backbone.

Revision: 0031
After: 0030
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0031"
down_revision = "0030"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("audio_sessions", sa.Column("backbone_sha256", sa.Text(), nullable=True))
    op.add_column(
        "audio_sessions",
        sa.Column("backbone_missed_at", sa.DateTime(timezone=True), nullable=True),
    )


def downgrade() -> None:
    op.drop_column("audio_sessions", "backbone_missed_at")
    op.drop_column("audio_sessions", "backbone_sha256")
