"""sessions, detections: overload and the noise floor of the instrument

Deploy rule: migrations run before the new code. The old code must work on what this leaves
behind, so first expand (add, nullable or with a default), and contract in a later release. All
columns are nullable without a default: no row is written, and the old code leaves them empty, which
means that overload was not measured.

Adding a column takes an ACCESS EXCLUSIVE lock of its table for an instant, and queries queue behind
a migration that waits for it (5 s at most, by `db.migrate`). Each table is committed by itself: a
transaction with both locks could deadlock with a request that takes the tables in the other order.
Reading the sessions for the check does not block writes. If the migration is interrupted, it can be run
again.

Revision: 0036
After: 0035
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0036"
down_revision = "0035"
branch_labels = None
depends_on = None

CHECK = "ck_audio_sessions_noise_floor"


def upgrade() -> None:
    with op.get_context().autocommit_block():
        op.add_column(
            "noise_detections",
            sa.Column("overloaded", sa.Boolean(), nullable=True),
            if_not_exists=True,
        )
        op.add_column(
            "audio_sessions",
            sa.Column("noise_floor_db", sa.Double(), nullable=True),
            if_not_exists=True,
        )
        for name in ("quarter_overloads", "quarter_overload_energies"):
            op.add_column(
                "audio_sessions",
                sa.Column(name, postgresql.ARRAY(sa.Double()), nullable=True),
                if_not_exists=True,
            )
        op.execute(f"ALTER TABLE audio_sessions DROP CONSTRAINT IF EXISTS {CHECK}")
        op.execute(
            f"ALTER TABLE audio_sessions ADD CONSTRAINT {CHECK}"
            " CHECK (noise_floor_db BETWEEN -50.0 AND 150.0) NOT VALID"
        )
        op.execute(f"ALTER TABLE audio_sessions VALIDATE CONSTRAINT {CHECK}")


def downgrade() -> None:
    # The check goes with its column.
    for name in ("quarter_overload_energies", "quarter_overloads", "noise_floor_db"):
        op.drop_column("audio_sessions", name)
    op.drop_column("noise_detections", "overloaded")
