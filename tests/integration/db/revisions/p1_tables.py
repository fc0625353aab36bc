"""tables: two, with rows

Revision: p1
"""

from __future__ import annotations

from alembic import op

revision = "p1"
down_revision = None


def upgrade() -> None:
    op.execute("CREATE TABLE owners (id integer CONSTRAINT pk_owners PRIMARY KEY, name text)")
    op.execute(
        "CREATE TABLE items (id integer CONSTRAINT pk_items PRIMARY KEY, owner_id integer,"
        " name text NOT NULL, spare text)"
    )
    op.execute("CREATE INDEX ix_items_spare ON items (spare)")
    op.execute("INSERT INTO owners SELECT id, 'owner' FROM generate_series(1, 10) AS id")
    op.execute(
        "INSERT INTO items SELECT id, 1 + id % 10, 'item ' || id"
        " FROM generate_series(1, 4000) AS id"
    )


def downgrade() -> None:
    """Every owner and every item."""
    op.execute("DROP TABLE items, owners")
