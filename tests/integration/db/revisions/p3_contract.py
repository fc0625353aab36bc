"""items: one more kind, no spare column

Steps that replace and drop.

Revision: p3
After: p2
"""

from __future__ import annotations

from db.migration import steps

revision = "p3"
down_revision = "p2"


def upgrade() -> None:
    steps.add_check("ck_items_kind", "items", "kind IN ('plain', 'odd', 'new')")
    steps.drop_index("ix_items_spare")
    steps.drop_column("items", "spare")
    steps.drop_constraint("fk_items_owner_id", "items")
    steps.create_index("ix_items_owner_id", "items", "owner_id")


def downgrade() -> None:
    steps.create_index("ix_items_owner_id", "items", "owner_id, id DESC", where="kind = 'plain'")
    steps.add_foreign_key("fk_items_owner_id", "items", "owner_id", "owners", on_delete="SET NULL")
    steps.add_column("items", "spare text")
    steps.create_index("ix_items_spare", "items", "spare")
    steps.add_check("ck_items_kind", "items", "kind IN ('plain', 'odd') AND name LIKE 'item %'")
