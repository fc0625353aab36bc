"""request records: which key a request showed, and an index for a user's usage in a period

Deploy rule: migrations run before the new code. The old code must work on what this leaves
behind, so first expand (add, nullable or with a default), and contract in a later release. No
earlier release writes this table, so it is empty, and its index is replaced in no time.

Revision: 0011
After: 0010
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

INDEX = "ix_api_requests_user_id"


def upgrade() -> None:
    op.add_column("api_requests", sa.Column("key_id", sa.Text(), nullable=True))
    op.drop_index(INDEX, "api_requests")
    op.create_index(INDEX, "api_requests", ["user_id", "received_at"])


def downgrade() -> None:
    op.drop_index(INDEX, "api_requests")
    op.create_index(INDEX, "api_requests", ["user_id"])
    op.drop_column("api_requests", "key_id")
