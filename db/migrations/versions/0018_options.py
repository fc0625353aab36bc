"""options: what a recording is posted with, beside its calibration, bands and priority

Deploy rule: migrations run before the new code. The old code must work on what this leaves
behind, so first expand (add, nullable or with a default), and contract in a later release. All
columns are nullable or have a default: the old code neither writes nor reads them.

Revision: 0018
After: 0017
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

CHECKS = {
    "thresholds": "jsonb_typeof(thresholds) = 'object'",
    "recorded_at": "recorded_at >= '1860-01-01 00:00:00+00:00' AND recorded_at < '2200-01-01 00:00:00+00:00'",
    "time_zone": "length(time_zone) BETWEEN 1 AND 64",
    "user_metadata": "jsonb_typeof(user_metadata) = 'object'",
}


def upgrade() -> None:
    for name in ("thresholds", "user_metadata"):
        op.add_column(
            "audio_sessions",
            sa.Column(name, postgresql.JSONB(), server_default=sa.text("'{}'"), nullable=False),
        )
    op.add_column(
        "audio_sessions", sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=True)
    )
    op.add_column("audio_sessions", sa.Column("time_zone", sa.Text(), nullable=True))
    for name, condition in CHECKS.items():
        op.create_check_constraint(op.f(f"ck_audio_sessions_{name}"), "audio_sessions", condition)


def downgrade() -> None:
    for name in reversed(CHECKS):
        op.drop_column("audio_sessions", name)
