"""candidates: the likeliest types of an event

Deploy rule: migrations run before the new code. The old code must work on what this leaves
behind, so first expand (add, nullable or with a default), and contract in a later release. The
column has a default: the old code neither writes nor reads it.

Revision: 0004
After: 0003
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "noise_detections",
        sa.Column(
            "candidates",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'[]'"),
            nullable=False,
        ),
    )


def downgrade() -> None:
    op.drop_column("noise_detections", "candidates")
