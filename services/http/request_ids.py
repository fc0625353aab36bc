"""Request IDs: in the response, in every log line and in every problem."""

from __future__ import annotations

import re
import uuid

import falcon
import structlog

from services.http import exchange

HEADER = "X-Request-ID"
_SANE = re.compile(r"[A-Za-z0-9._-]{1,64}")


def name(req: falcon.Request, resp: falcon.Response) -> str:
    """Return the request's ID; on first use, take the caller's if it is valid, else a new one."""
    known: str | None = getattr(req.context, "request_id", None)
    if known is not None:
        return known
    given = req.get_header(HEADER) or ""
    request_id = given if _SANE.fullmatch(given) else uuid.uuid4().hex
    req.context.request_id = exchange.of(req).request_id = request_id
    resp.set_header(HEADER, request_id)
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(request_id=request_id)
    return request_id


class RequestId:
    """Middleware, the first in the list, that gives every request its ID."""

    def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Set the ID in the response and in every log line."""
        name(req, resp)
