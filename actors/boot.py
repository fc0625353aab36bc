"""The entry point of a worker process, which dramatiq calls after the fork."""

from __future__ import annotations

from actors.execution.imports import lasting


def boot() -> None:
    """Import all that a listening worker needs, and set it up."""
    with lasting():
        from actors import worker
    worker.boot()
