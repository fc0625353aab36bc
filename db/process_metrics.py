"""The metrics that one process counts itself, in a registry that all packages share.

They have no label for the process: :class:`actors.observability.metrics.ProcessMetrics` adds it
when they are read. A counter is defined beside the code that counts.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, disable_created_metrics

# Otherwise each series gets a second one with its time of creation.
disable_created_metrics()  # type: ignore[no-untyped-call]

REGISTRY = CollectorRegistry()
