"""items: their kind, and a table of notes

Every step that adds, and a table by op after them.

Revision: p2
After: p1
"""

from __future__ import annotations

from alembic import op

from db.migration import steps

revision = "p2"
down_revision = "p1"

LOSES = "the kinds of items, and all notes"


def upgrade() -> None:
    steps.add_column("items", "kind text")
    steps.brief(
        "trigger of kinds",
        "CREATE OR REPLACE FUNCTION fill_kind() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN NEW.kind := coalesce(NEW.kind, 'plain'); RETURN NEW; END $$",
        "DROP TRIGGER IF EXISTS fill_kind ON items",
        "CREATE TRIGGER fill_kind BEFORE INSERT ON items FOR EACH ROW EXECUTE FUNCTION fill_kind()",
    )
    steps.backfill("items", "kind = 'plain'", "kind IS NULL")
    steps.set_not_null("items", "kind")
    steps.add_check("ck_items_kind", "items", "kind IN ('plain', 'odd') AND name LIKE 'item %'")
    steps.add_foreign_key("fk_items_owner_id", "items", "owner_id", "owners", on_delete="SET NULL")
    steps.create_index("ix_items_owner_id", "items", "owner_id, id DESC", where="kind = 'plain'")
    steps.create_index("uq_items_name", "items", "lower(name)", unique=True)
    op.execute("CREATE TABLE notes (id integer CONSTRAINT pk_notes PRIMARY KEY, text text)")
    op.execute("INSERT INTO notes VALUES (1, 'a %s note: ''%''')")


def downgrade() -> None:
    steps.drop_index("uq_items_name")
    steps.drop_index("ix_items_owner_id")
    steps.drop_constraint("fk_items_owner_id", "items")
    steps.drop_column("items", "kind")
    op.execute("DROP TRIGGER fill_kind ON items")
    op.execute("DROP FUNCTION fill_kind()")
    op.execute("DROP TABLE notes")
