"""``/health``: liveness and readiness probes of an API process."""

from __future__ import annotations

from functools import partial

import falcon
import msgspec

from actors.messaging import queues
from actors.observability.readiness import Readiness
from db import migrate
from services.http.deps import Deps
from services.http.operations import operation
from services.http.resource import Resource
from services.http.responses import answer


class Health(msgspec.Struct, kw_only=True):
    """The health of this process: ``ok``, or the failure of each check."""

    status: str
    checks: dict[str, str]


class Live(Resource):
    """``GET /health/live``: the liveness probe."""

    @operation(scope=None, answer=Health)
    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        """Check that the process is alive. Any answer is 200; a hung process gives none."""
        answer(resp, Health(status="ok", checks={}))


class Ready(Resource):
    """``GET /health/ready``: the readiness probe: a recording uploaded now will be stored.

    An unavailable broker is reported but does not make the process unready: uploads are stored,
    and recovery sends their messages later.
    """

    def __init__(self, deps: Deps) -> None:
        super().__init__(deps)
        self._readiness = Readiness(
            needed={"database": partial(migrate.check, deps.store), "blobs": deps.blobs.check},
            shown={"broker": partial(queues.check, deps.publisher.broker)},
        )

    @operation(scope=None, answer=Health, also={503: Health})
    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        """Check that the process is ready for requests.

        The status is 200 if the database schema is recent enough and the blob store responds and
        has free space, otherwise 503. An unavailable broker is reported in ``checks`` and does not
        change the status.
        """
        ready, checks = self._readiness.look()
        answer(
            resp,
            Health(status="ok" if ready else "unavailable", checks=checks),
            status=200 if ready else 503,
        )
