"""The schema of the first release.

Locks: nothing that anyone waits for; it creates every table.
Takes: less than a second.
Before: no release; the database is empty.
After: the first release.

The SQL is in ``db/migrations/baseline``, a file for each domain. Each table comes with the comments
of its columns and with its indexes; above each index are the queries of ``db/queries`` and
``db/queue`` that use it.
"""

from __future__ import annotations

from importlib import resources

import sqlalchemy as sa
from alembic import op

revision = "b002"
down_revision = None
branch_labels = None
depends_on = None

#: In the order of their references.
FILES = (
    "functions",
    "accounts",
    "requests",
    "models",
    "sessions",
    "unfinished",
    "batches",
    "results",
    "webhooks",
    "exports",
    "maintenance",
    "revision",
    "partitions",
)


def upgrade() -> None:
    for name in FILES:
        file = resources.files("db").joinpath("migrations", "baseline", f"{name}.sql")
        sql = file.read_text(encoding="utf-8").rstrip().removesuffix(";")
        # A colon would begin a parameter.
        op.execute(sa.text(sql.replace(":", r"\:")))


def downgrade() -> None:
    """Everything."""
    op.execute(
        """
        DROP TABLE
            users, api_keys, rate_buckets, usage_months,
            api_requests, request_minutes, idempotent_requests,
            noise_models, promotions, training_jobs, training_clips, validations,
            audio_sessions, session_results, unfinished_sessions, turns,
            session_leftovers, batches, batch_items,
            session_spans, noise_detections, analyses, processing_metrics,
            webhooks, webhook_deliveries,
            exports, daily_reports,
            job_runs, kept_clips, installation, orphan_blobs, removed_blobs
        """
    )
    for name in (
        "create_partitions()",
        "drop_partition(text, interval)",
        "queue_webhook_deliveries()",
        "uuid_v7()",
    ):
        op.execute(f"DROP FUNCTION {name}")
