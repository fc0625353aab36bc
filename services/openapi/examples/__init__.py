"""An example request and answer for each operation.

Examples are keyed by ``METHOD template`` as in the route table and appear in the OpenAPI document.
``tests/unit/openapi/test_openapi.py`` checks that every operation has one that fits its structs.
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
