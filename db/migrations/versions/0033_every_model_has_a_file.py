"""models: each names its file; documents of models and reports have all their fields

Deploy rule: migrations run before the new code. The old code must work on what this leaves
behind, so first expand (add, nullable or with a default), and contract in a later release. This
one contracts at once, since the old code also writes the key of every model.

A row without a key is a shipped model whose file was never stored. Sessions, trainings and
promotions refer to it, so the row stays, and gets the key under which a worker that ships this
model stores the file when it starts. Until such a worker starts, the file is reported as not
stored.

Documents that were written before a field existed get the field: cards their warnings, reports
their sums by group, which are empty, so the report is marked as stale. The accuracy in a header
gets the name that it has in a card. These tables have few rows.

Each statement is committed by itself, so that no lock outlasts its statement. The unvalidated check
refuses new rows without a key; validating it reads the table without blocking anyone; with a valid
check, SET NOT NULL does not read the table under its ACCESS EXCLUSIVE lock. If the migration is
interrupted, it can be run again.

Revision: 0033
After: 0032
"""

from __future__ import annotations

from alembic import op

revision = "0033"
down_revision = "0032"
branch_labels = None
depends_on = None

CHECK = "ck_noise_models_blob_key"


def upgrade() -> None:
    with op.get_context().autocommit_block():
        op.execute(f"ALTER TABLE noise_models DROP CONSTRAINT IF EXISTS {CHECK}")
        op.execute(
            f"ALTER TABLE noise_models ADD CONSTRAINT {CHECK}"
            " CHECK (blob_key IS NOT NULL) NOT VALID"
        )
        # The key of `db.blobs.keys.shipped_key`.
        op.execute(
            "UPDATE noise_models SET blob_key = 'models/' || sha256, is_shipped = true"
            " WHERE blob_key IS NULL"
        )
        op.execute(f"ALTER TABLE noise_models VALIDATE CONSTRAINT {CHECK}")
        op.execute("ALTER TABLE noise_models ALTER COLUMN blob_key SET NOT NULL")
        op.execute(f"ALTER TABLE noise_models DROP CONSTRAINT {CHECK}")

        op.execute(
            "UPDATE noise_models SET card = jsonb_set(card, '{warnings}', '[]')"
            " WHERE jsonb_typeof(card) = 'object' AND NOT card ? 'warnings'"
        )
        op.execute(
            "UPDATE noise_models SET header = jsonb_set(header #- '{training,accuracy}',"
            " '{training,clip_accuracy}', header #> '{training,accuracy}')"
            " WHERE header #> '{training,accuracy}' IS NOT NULL"
            " AND header #> '{training,clip_accuracy}' IS NULL"
        )
        op.execute(
            "UPDATE daily_reports SET report = jsonb_set(report, '{detections,by_group}', '{}'),"
            " made_from = ''"
            " WHERE jsonb_typeof(report -> 'detections') = 'object'"
            " AND NOT report -> 'detections' ? 'by_group'"
        )


def downgrade() -> None:
    # The filled keys and fields stay: the old code reads them, too.
    op.alter_column("noise_models", "blob_key", nullable=True)
