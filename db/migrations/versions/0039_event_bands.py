"""noise_detections, sessions: third octaves of each detection

Deploy rule: migrations run before the new code. The old code must work on what this leaves
behind, so first expand (add, nullable or with a default), and contract in a later release. Both
columns are nullable without a default: no row is written, and the old code leaves them empty, which
means that the bands of detections were not measured.

Adding a column takes an ACCESS EXCLUSIVE lock of its table for an instant, and queries queue behind
a migration that waits for it (5 s at most, by `db.migrate`). Each table is committed by itself: a
transaction with both locks could deadlock with a request that takes the tables in the other order.
If the migration is interrupted, it can be run again.

Revision: 0039
After: 0038
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0039"
down_revision = "0038"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.get_context().autocommit_block():
        op.add_column(
            "noise_detections",
            sa.Column("third_octaves_db", postgresql.ARRAY(sa.Double()), nullable=True),
            if_not_exists=True,
        )
        op.add_column(
            "audio_sessions", sa.Column("bands_key", sa.Text(), nullable=True), if_not_exists=True
        )


def downgrade() -> None:
    op.drop_column("audio_sessions", "bands_key")
    op.drop_column("noise_detections", "third_octaves_db")
