"""usage: seconds of audio that users had analysed in each month, and how many they may have

Deploy rule: migrations run before the new code. The old code must work on what this leaves
behind, so first expand (add, nullable or with a default), and contract in a later release. The
new column is nullable and the table is new: what workers of the old release split is not counted.

Revision: 0016
After: 0015
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "usage_months",
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("month", sa.Date(), nullable=False),
        sa.Column("audio_s", sa.Double(), nullable=False),
        sa.Column("sessions", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_usage_months_user_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("user_id", "month", name=op.f("pk_usage_months")),
    )
    op.add_column("users", sa.Column("max_audio_s_per_month", sa.Double(), nullable=True))
    # One row a user: to look at all of them takes no time.
    op.create_check_constraint(
        op.f("ck_users_max_audio_s_per_month"), "users", "max_audio_s_per_month >= 0"
    )


def downgrade() -> None:
    op.drop_constraint(op.f("ck_users_max_audio_s_per_month"), "users", type_="check")
    op.drop_column("users", "max_audio_s_per_month")
    op.drop_table("usage_months")
