"""Waiting for tasks of the API by polling them."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from typing import Protocol, TypeVar

from services.client.errors import ApiError

#: How long a server may be unreachable, such as during a restart, before a request or a wait fails.
AWAY_S = 60.0
#: Seconds between two polls: quick for short clips, cheap for long files.
POLL_FIRST_S = 0.1
POLL_MAX_S = 1.0


class Watched(Protocol):
    """A long-running task that can be polled by its ID."""

    id: uuid.UUID

    @property
    def finished(self) -> bool:
        """Whether the task has finished."""


SomeWatched = TypeVar("SomeWatched", bound=Watched)


def wait(
    watched: SomeWatched,
    look: Callable[[object], SomeWatched],
    on_change: Callable[[SomeWatched], object] | None = None,
) -> SomeWatched:
    """Poll a task until it has finished; tolerate an unreachable server for ``AWAY_S``."""
    pause_s, answered_at = POLL_FIRST_S, time.monotonic()
    while not watched.finished:
        time.sleep(pause_s)
        pause_s = min(pause_s * 1.5, POLL_MAX_S)
        try:
            watched = look(watched.id)
            answered_at = time.monotonic()
        except ApiError:
            if time.monotonic() - answered_at > AWAY_S:
                raise
        if on_change is not None:
            on_change(watched)
    return watched
