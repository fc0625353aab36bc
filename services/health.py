"""``/health``: may this process live, and may it be given requests?"""

from __future__ import annotations

from collections.abc import Callable

import falcon
import structlog

from actors.broker import Publisher
from db import migrate
from db.blobs import Blobs
from db.session import Store
from services import schemas
from services.contract import operation
from services.sessions import answer

log = structlog.get_logger(__name__)


class Live:
    """``GET /health/live``: this process answers."""

    @operation(scope=None, answer=schemas.Health)
    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        """Always ok: a process that cannot answer is found by its silence."""
        answer(resp, schemas.Health(status="ok", checks={}))


class Ready:
    """``GET /health/ready``: a recording that is posted now will be kept.

    A broker that is away is shown but does not make the process unready: uploads are kept, and
    the steward sends their messages later.
    """

    def __init__(self, store: Store, blobs: Blobs, publisher: Publisher) -> None:
        self._store = store
        self._publisher = publisher
        self._needed: dict[str, Callable[[], None]] = {
            "database": self._check_database,
            "blobs": blobs.check,
        }

    @operation(scope=None, answer=schemas.Health)
    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        """200 if the database is at the newest migration and the blob store answers, else 503."""
        checks = {name: _outcome(name, check) for name, check in self._needed.items()}
        ready = all(outcome == "ok" for outcome in checks.values())
        checks["broker"] = "ok" if self._publisher.reachable() else "away"
        answer(
            resp,
            schemas.Health(status="ok" if ready else "unavailable", checks=checks),
            status=200 if ready else 503,
        )

    def _check_database(self) -> None:
        with self._store.engine.connect() as connection:
            if migrate.current(connection) != migrate.head():
                raise migrate.MigrationError("migrations are not at head")


def _outcome(name: str, check: Callable[[], None]) -> str:
    try:
        check()
    except migrate.MigrationError as error:
        return str(error)
    except Exception as error:
        log.warning("not_ready", part=name, error=type(error).__name__)
        return "away"
    return "ok"
