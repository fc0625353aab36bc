"""``/health``: may this process live, and may it be given requests?"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import falcon

from actors.messaging import queues
from actors.messaging.broker import Publisher
from db import migrate
from db.blobs import Blobs, BlobsFull
from db.store import Store
from services.api.sessions import schemas
from services.http.cached_probe import CachedProbe
from services.http.operations import operation
from services.http.responses import answer


class Live:
    """``GET /health/live``: this process answers."""

    @operation(scope=None, answer=schemas.Health)
    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        """Always ok: a process that cannot answer is found by its silence."""
        answer(resp, schemas.Health(status="ok", checks={}))


class Ready:
    """``GET /health/ready``: a recording that is posted now will be kept.

    A broker that is away is shown but does not make the process unready: uploads are kept, and
    recovery sends their messages later.
    """

    def __init__(self, store: Store, blobs: Blobs, publisher: Publisher) -> None:
        self._store = store
        self._needed = {
            "database": _check("database", self._check_database),
            "blobs": _check("blobs", blobs.check),
        }
        self._shown = {"broker": _check("broker", partial(queues.check, publisher.broker))}

    @operation(scope=None, answer=schemas.Health, also={503: schemas.Health})
    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        """200 if the schema is new enough and the blob store answers and has room, else 503."""
        asked = self._needed | self._shown
        for check in asked.values():
            # All at once: a probe waits for the slowest of them, and never for long.
            check.ask()
        checks = {name: check.get() or "away" for name, check in asked.items()}
        ready = all(checks[name] == "ok" for name in self._needed)
        answer(
            resp,
            schemas.Health(status="ok" if ready else "unavailable", checks=checks),
            status=200 if ready else 503,
        )

    def _check_database(self) -> None:
        with self._store.engine.connect() as connection:
            migrate.require(connection)


def _check(name: str, check: Callable[[], None]) -> CachedProbe[str]:
    """A check to be asked anew by each probe; without an answer, something is away."""

    def outcome() -> str:
        try:
            check()
        except (migrate.MigrationError, BlobsFull) as error:
            return str(error)
        return "ok"

    return CachedProbe(name, outcome, fresh_s=0.0)
