"""levels: what a recording was posted with, and what was measured

Deploy rule: migrations run before the new code. The old code must work on what this leaves
behind, so first expand (add, nullable or with a default), and contract in a later release. All
columns are nullable: the old code neither writes nor reads them.

Revision: 0002
After: 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("audio_sessions", sa.Column("calibration_db", sa.Double(), nullable=True))
    op.add_column("audio_sessions", sa.Column("calibration_tone_db", sa.Double(), nullable=True))
    op.add_column("audio_sessions", sa.Column("bands", sa.Text(), nullable=True))
    op.add_column(
        "audio_sessions",
        sa.Column("totals", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
    )
    op.add_column("audio_sessions", sa.Column("levels_answer_key", sa.Text(), nullable=True))
    op.create_check_constraint(
        op.f("ck_audio_sessions_calibration"),
        "audio_sessions",
        "calibration_db BETWEEN -100.0 AND 250.0",
    )
    op.create_check_constraint(
        op.f("ck_audio_sessions_tone"),
        "audio_sessions",
        "calibration_tone_db IN (94.0, 114.0)",
    )
    op.create_check_constraint(
        op.f("ck_audio_sessions_bands"),
        "audio_sessions",
        "bands IN ('third_octave')",
    )


def downgrade() -> None:
    op.drop_constraint(op.f("ck_audio_sessions_bands"), "audio_sessions", type_="check")
    op.drop_constraint(op.f("ck_audio_sessions_tone"), "audio_sessions", type_="check")
    op.drop_constraint(op.f("ck_audio_sessions_calibration"), "audio_sessions", type_="check")
    op.drop_column("audio_sessions", "levels_answer_key")
    op.drop_column("audio_sessions", "totals")
    op.drop_column("audio_sessions", "bands")
    op.drop_column("audio_sessions", "calibration_tone_db")
    op.drop_column("audio_sessions", "calibration_db")
