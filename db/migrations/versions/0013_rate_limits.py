"""rate limits: a bucket of tokens for each key, and a rate of its own for those that have one

Deploy rule: migrations run before the new code. The old code must work on what this leaves
behind, so first expand (add, nullable or with a default), and contract in a later release. The
new column is nullable and the table is new: the old code neither writes nor reads them.

Revision: 0013
After: 0012
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "rate_buckets",
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("tokens", sa.Double(), nullable=False),
        sa.Column("per_s", sa.Double(), nullable=False),
        sa.Column("burst", sa.Double(), nullable=False),
        sa.Column(
            "settled_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False
        ),
        sa.CheckConstraint("per_s > 0 AND burst >= 1", name=op.f("ck_rate_buckets_rate")),
        sa.ForeignKeyConstraint(
            ["key_id"], ["api_keys.id"], name=op.f("fk_rate_buckets_key_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("key_id", name=op.f("pk_rate_buckets")),
    )
    op.add_column("api_keys", sa.Column("requests_per_s", sa.Double(), nullable=True))
    # One row a key: to look at all of them takes no time.
    op.create_check_constraint(op.f("ck_api_keys_requests_per_s"), "api_keys", "requests_per_s > 0")


def downgrade() -> None:
    op.drop_constraint(op.f("ck_api_keys_requests_per_s"), "api_keys", type_="check")
    op.drop_column("api_keys", "requests_per_s")
    op.drop_table("rate_buckets")
