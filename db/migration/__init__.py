"""The machinery of migrations. The revisions are in ``db/migrations``; start at ``db.migrate``."""
