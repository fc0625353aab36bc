"""An example of each operation: what is asked, and what is answered.

Each is looked up by ``METHOD template`` as in the route table, and ends in the OpenAPI document.
Every operation has one, and each is what its structs say: ``tests/unit/openapi/test_openapi.py``.
"""

from __future__ import annotations

from services.openapi.examples import (
    accounts,
    analyses,
    batches,
    exports,
    jobs,
    models,
    noise_types,
    operations,
    reports,
    sessions,
    usage,
    webhooks,
)
from services.openapi.examples.example import PARAMETERS, Example

__all__ = ["EXAMPLES", "PARAMETERS", "Example"]

EXAMPLES: dict[str, Example] = {
    **sessions.EXAMPLES,
    **analyses.EXAMPLES,
    **batches.EXAMPLES,
    **models.EXAMPLES,
    **noise_types.EXAMPLES,
    **exports.EXAMPLES,
    **webhooks.EXAMPLES,
    **accounts.EXAMPLES,
    **usage.EXAMPLES,
    **reports.EXAMPLES,
    **jobs.EXAMPLES,
    **operations.EXAMPLES,
}
