"""The tables, by domain.

All are imported together, since foreign keys refer to tables of other domains, and migrations are
compared with all of them.
"""

from db.tables import (  # noqa: F401
    accounts,
    analyses,
    batches,
    exports,
    idempotency,
    job_runs,
    models,
    reports,
    requests,
    retention,
    sessions,
    training,
    usage_limits,
    webhooks,
)
