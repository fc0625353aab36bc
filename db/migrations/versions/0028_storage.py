"""storage: claims that do not count as attempts, and whether a row waits for the blob store

Deploy rule: migrations run before the new code. The old code must work on what this leaves
behind, so first expand (add, nullable or with a default), and contract in a later release. The
columns have constant defaults, so that no row is rewritten. A worker of the release before counts
every claim: it gives up a row that has waited for storage more than ``CLAMOR_MAX_ATTEMPTS`` times.
Replace the workers while the blob store answers.

Revision: 0028
After: 0027
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None

CLAIMED = (
    "analyses",
    "audio_sessions",
    "batches",
    "daily_reports",
    "exports",
    "job_runs",
    "session_spans",
    "training_jobs",
    "validations",
    "webhooks",
)


def upgrade() -> None:
    for table in CLAIMED:
        op.add_column(
            table,
            sa.Column("uncounted", sa.SmallInteger(), server_default=sa.text("0"), nullable=False),
        )
        op.add_column(
            table,
            sa.Column(
                "waits_for_storage", sa.Boolean(), server_default=sa.text("false"), nullable=False
            ),
        )
    op.add_column(
        "audio_sessions",
        sa.Column("first_claim", sa.SmallInteger(), server_default=sa.text("0"), nullable=False),
    )


def downgrade() -> None:
    op.drop_column("audio_sessions", "first_claim")
    for table in reversed(CLAIMED):
        op.drop_column(table, "waits_for_storage")
        op.drop_column(table, "uncounted")
