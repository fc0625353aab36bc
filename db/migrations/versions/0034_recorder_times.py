"""sessions, batch items: what states when a recording began

Deploy rule: migrations run before the new code. The old code must work on what this leaves
behind, so first expand (add, nullable or with a default), and contract in a later release. All
columns are nullable without a default: no row is written. A session with a time and no source has
the time that its caller gave, which is what the old code writes.

Each ALTER takes an ACCESS EXCLUSIVE lock of its table for an instant. Reading the table for the
checks does not block writes, but cannot be done in one transaction with the rest. If it is
interrupted, the migration can be run again.

Revision: 0034
After: 0033
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0034"
down_revision = "0033"
branch_labels = None
depends_on = None

CHECKS = {
    "recorded_at_from": "recorded_at_from IN ('guano', 'bext', 'ixml', 'comment', 'wamd', 'tag', 'file_name', 'mp4')",
    "recorded_at_zone": "recorded_at_zone IN ('file', 'time_zone', 'assumed_utc')",
    "recorded_at_source": "num_nonnulls(recorded_at_from, recorded_at_zone) = 0 OR num_nulls(recorded_at, recorded_at_from, recorded_at_zone) = 0",
}


def upgrade() -> None:
    for name in ("recorded_at_from", "recorded_at_zone"):
        op.add_column(
            "audio_sessions", sa.Column(name, sa.Text(), nullable=True), if_not_exists=True
        )
    for name, condition in CHECKS.items():
        op.execute(f"ALTER TABLE audio_sessions DROP CONSTRAINT IF EXISTS ck_audio_sessions_{name}")
        op.execute(
            f"ALTER TABLE audio_sessions ADD CONSTRAINT ck_audio_sessions_{name}"
            f" CHECK ({condition}) NOT VALID"
        )
    with op.get_context().autocommit_block():
        for name in CHECKS:
            op.execute(f"ALTER TABLE audio_sessions VALIDATE CONSTRAINT ck_audio_sessions_{name}")
        op.add_column(
            "batch_items",
            sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=True),
            if_not_exists=True,
        )


def downgrade() -> None:
    op.drop_column("batch_items", "recorded_at")
    for name in ("recorded_at_zone", "recorded_at_from"):
        op.drop_column("audio_sessions", name)
