"""Headers that browsers and caches need of every response, whatever its resource sets."""

from __future__ import annotations

from collections.abc import Sequence

import falcon

#: Headers of responses that a page of another origin may read, besides the usual ones.
EXPOSED = ("ETag", "Location", "Retry-After", "X-Request-ID", "Idempotent-Replayed")


class ResponseHeaders:
    """Middleware that adds what a resource did not set.

    Browsers must not guess the type of a response, and caches must not keep one that says nothing
    about it: most are about the caller's own recordings.
    """

    def __init__(self, *, has_origins: bool) -> None:
        self._has_origins = has_origins

    def process_response(
        self,
        _req: falcon.Request,
        resp: falcon.Response,
        _resource: object,
        _req_succeeded: bool,
    ) -> None:
        """Add the headers."""
        resp.set_header("X-Content-Type-Options", "nosniff")
        # The HTTP server adds its name where there is none.
        resp.set_header("Server", "")
        if resp.cache_control is None:
            resp.cache_control = ["no-store"]
        if self._has_origins:
            # A cached response must not reach a page of another origin.
            resp.append_header("Vary", "Origin")


def cors(origins: Sequence[str]) -> list[object]:
    """Return the middleware that lets pages of these origins call the API; none without any.

    No credentials of the browser are involved: a page sends an API key.
    """
    if not origins:
        return []
    return [falcon.CORSMiddleware(allow_origins=list(origins), expose_headers=list(EXPOSED))]
