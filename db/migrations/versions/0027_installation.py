"""installation: whose blob store it is, blobs without a row, and recordings decoded again

Deploy rule: migrations run before the new code. The old code must work on what this leaves
behind, so first expand (add, nullable or with a default), and contract in a later release. Both
tables are new. The column has a constant default, so that no row is written. The installation's id
is made here, once: a copy of the database has the same.

Revision: 0027
After: 0026
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None


def upgrade() -> None:
    time = sa.DateTime(timezone=True)
    op.create_table(
        "installation",
        sa.Column("singleton", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.CheckConstraint("singleton", name=op.f("ck_installation_singleton")),
        sa.PrimaryKeyConstraint("singleton", name=op.f("pk_installation")),
    )
    op.execute("INSERT INTO installation DEFAULT VALUES")
    op.create_table(
        "orphan_blobs",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("seen_at", time, nullable=False),
        sa.Column("marked_at", time, nullable=True),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_orphan_blobs")),
    )
    op.add_column(
        "audio_sessions",
        sa.Column("resplits", sa.SmallInteger(), server_default=sa.text("0"), nullable=False),
    )


def downgrade() -> None:
    op.drop_column("audio_sessions", "resplits")
    op.drop_table("orphan_blobs")
    op.drop_table("installation")
