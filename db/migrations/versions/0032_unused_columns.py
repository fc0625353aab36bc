"""users, sessions: without two columns that no code reads or writes

Deploy rule: migrations run before the new code. The old code must work on what this leaves
behind, so first expand (add, nullable or with a default), and contract in a later release. This
one contracts at once, since the code that lists the columns was never released.

Dropping a column rewrites no row, but takes an ACCESS EXCLUSIVE lock of its table for an instant,
and queries queue behind a migration that waits for it (5 s at most, by `db.migrate`). Each drop is
committed by itself: a transaction with both locks could deadlock with a request that takes the
tables in the other order. If the migration is interrupted, it can be run again.

Revision: 0032
After: 0031
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0032"
down_revision = "0031"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.get_context().autocommit_block():
        op.drop_column("users", "password_hash", if_exists=True)
        op.drop_column("audio_sessions", "chunk_samples", if_exists=True)


def downgrade() -> None:
    op.add_column("audio_sessions", sa.Column("chunk_samples", sa.Integer(), nullable=True))
    op.add_column("users", sa.Column("password_hash", sa.Text(), nullable=True))
