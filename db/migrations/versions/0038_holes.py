"""sessions: the intervals of a recording without audio

Deploy rule: migrations run before the new code. The old code must work on what this leaves
behind, so first expand (add, nullable or with a default), and contract in a later release. The
column is nullable without a default: no row is written, and the old code leaves it empty. A session
that the old code split has no holes.

Revision: 0038
After: 0037
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0038"
down_revision = "0037"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("audio_sessions", sa.Column("holes", postgresql.JSONB(), nullable=True))


def downgrade() -> None:
    op.drop_column("audio_sessions", "holes")
