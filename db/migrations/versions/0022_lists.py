"""lists: indexes in the orders in which lists are walked

Deploy rule: migrations run before the new code. The old code must work on what this leaves
behind, so first expand (add, nullable or with a default), and contract in a later release. What
goes is replaced by an index that begins with the same columns.

The tables are large, so the indexes are built while work goes on. That cannot be done in a
transaction: if it is interrupted, the migration can be run again, and begins anew with the index
that it was at.

Revision: 0022
After: 0021
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

UNFINISHED = "state IN ('queued', 'splitting', 'detecting', 'aggregating')"
#: Name, table, columns, and of which rows.
NEW = (
    ("ix_audio_sessions_user_created", "audio_sessions", ["user_id", "created_at", "id"], None),
    ("ix_audio_sessions_user_duration", "audio_sessions", ["user_id", "duration_s", "id"], None),
    ("ix_audio_sessions_user_finished", "audio_sessions", ["user_id", "finished_at", "id"], None),
    (
        "ix_audio_sessions_user_state",
        "audio_sessions",
        ["user_id", "state", "created_at", "id"],
        None,
    ),
    (
        "ix_audio_sessions_user_file",
        "audio_sessions",
        ["user_id", "file_name", "created_at", "id"],
        None,
    ),
    (
        "ix_audio_sessions_batch_created",
        "audio_sessions",
        ["batch_id", "created_at", "id"],
        "batch_id IS NOT NULL",
    ),
    (
        "ix_audio_sessions_batch_unfinished",
        "audio_sessions",
        ["batch_id"],
        f"batch_id IS NOT NULL AND {UNFINISHED}",
    ),
    ("ix_session_spans_failed", "session_spans", ["session_id"], "state = 'failed'"),
    (
        "ix_noise_detections_heard",
        "noise_detections",
        ["noise_type", "session_id", "confidence"],
        None,
    ),
    ("ix_batches_user_created", "batches", ["user_id", "created_at", "id"], None),
    ("ix_training_jobs_user_created", "training_jobs", ["user_id", "created_at", "id"], None),
    ("ix_validations_user_created", "validations", ["user_id", "created_at", "id"], None),
)
OLD = (
    ("ix_audio_sessions_user_id", "audio_sessions", ["user_id"], None),
    ("ix_audio_sessions_batch_id", "audio_sessions", ["batch_id"], "batch_id IS NOT NULL"),
    ("ix_noise_detections_noise_type", "noise_detections", ["noise_type"], None),
    ("ix_batches_user_id", "batches", ["user_id"], None),
    ("ix_training_jobs_user_id", "training_jobs", ["user_id"], None),
    ("ix_validations_user_id", "validations", ["user_id"], None),
)


def upgrade() -> None:
    with op.get_context().autocommit_block():
        for name, table, columns, where in NEW:
            # One that was interrupted is left behind, and is of no use.
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
            _create(name, table, columns, where, concurrently=True)
        for name, *_ in OLD:
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")


def downgrade() -> None:
    # In one transaction, for which uploads wait: nobody goes back while there is traffic.
    for name, table, columns, where in OLD:
        _create(name, table, columns, where, concurrently=False)
    for name, table, *_ in NEW:
        op.drop_index(name, table_name=table)


def _create(
    name: str, table: str, columns: list[str], where: str | None, *, concurrently: bool
) -> None:
    op.create_index(
        name,
        table,
        columns,
        unique=False,
        postgresql_where=None if where is None else sa.text(where),
        postgresql_concurrently=concurrently,
    )
