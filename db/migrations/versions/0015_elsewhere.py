"""elsewhere: recordings that are fetched from an address, or were put into the store by their owner

Deploy rule: migrations run before the new code. The old code must work on what this leaves
behind, so first expand (add, nullable or with a default), and contract in a later release. The
new columns are nullable. A session of the new code has no size until its recording is here: old
workers fail at it, and try again until a new one takes it.

Revision: 0015
After: 0014
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name in ("source_url", "source_key"):
        op.add_column("audio_sessions", sa.Column(name, sa.Text(), nullable=True))
    op.create_check_constraint(
        op.f("ck_audio_sessions_source"),
        "audio_sessions",
        "num_nonnulls(source_url, source_key) <= 1",
    )
    op.alter_column("audio_sessions", "size_bytes", nullable=True)


def downgrade() -> None:
    # What has not been brought here by now never will be: the old code cannot.
    op.execute(
        "UPDATE audio_sessions SET state = 'failed', finished_at = now(),"
        ' problem = \'{"code": "source-not-found", "detail": "it was not fetched"}\''
        " WHERE size_bytes IS NULL AND finished_at IS NULL"
    )
    op.execute("UPDATE audio_sessions SET size_bytes = 0 WHERE size_bytes IS NULL")
    op.alter_column("audio_sessions", "size_bytes", nullable=False)
    op.drop_constraint(op.f("ck_audio_sessions_source"), "audio_sessions", type_="check")
    for name in ("source_key", "source_url"):
        op.drop_column("audio_sessions", name)
