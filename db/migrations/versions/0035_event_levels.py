"""noise_detections: exposure, greatest LAS, C peak, and how a detection stands out from before it

Deploy rule: migrations run before the new code. The old code must work on what this leaves
behind, so first expand (add, nullable or with a default), and contract in a later release. The
columns are nullable without a default: no row is written, and the old code leaves them empty. Rows
of older sessions keep nulls, which the new code serves as null.

The table is locked exclusively for an instant, and queries queue behind a migration that waits for
that lock (5 s at most, by `db.migrate`).

Revision: 0035
After: 0034
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0035"
down_revision = "0034"
branch_labels = None
depends_on = None

_COLUMNS = (
    "lae_db",
    "lasmax_db",
    "lcpeak_db",
    "background_la90_db",
    "emergence_db",
    "above_background_s",
)


def upgrade() -> None:
    for name in _COLUMNS:
        op.add_column("noise_detections", sa.Column(name, sa.Double(), nullable=True))


def downgrade() -> None:
    for name in reversed(_COLUMNS):
        op.drop_column("noise_detections", name)
