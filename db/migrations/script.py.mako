"""${message}

Locks: each table, the kind of lock, and whether reads or writes wait for it.
Takes: how long, with a year of data (docs/performance.md).
Before: which releases may run while it runs. The release before must work on what it leaves behind:
expand first (add a column that is null or has a default, a check NOT VALID), contract in a later
release.
After: which releases may start once it has run.

Revision: ${up_revision}
Follows: ${down_revision | comma,n}
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
${imports if imports else ""}

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = ${repr(branch_labels)}
depends_on = ${repr(depends_on)}

#: What a downgrade loses, for the consent to ``clamor migrate --down``.
LOSES = ""


def upgrade() -> None:
    ${upgrades if upgrades else "pass"}


def downgrade() -> None:
    ${downgrades if downgrades else "pass"}
