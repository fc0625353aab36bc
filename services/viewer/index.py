"""``/``: a redirect to the start page for browsers, and an index of the API for other clients."""

from __future__ import annotations

from importlib.metadata import version

import falcon
import msgspec

from services.http import responses
from services.http.operations import operation

#: The redirect target for browsers.
START_PAGE = "/sessions"


class UploadLimits(msgspec.Struct, kw_only=True):
    """Limits that a client should check before it sends anything."""

    #: Maximum size of one recording.
    max_upload_bytes: int


class Index(msgspec.Struct, kw_only=True):
    """Name, version, limits and main paths of the service."""

    name: str
    version: str
    limits: UploadLimits
    #: Paths by name, on this server.
    links: dict[str, str]


LINKS = {
    "start_page": START_PAGE,
    "sessions": "/v1/sessions",
    "batches": "/v1/batches",
    "noise_types": "/v1/noise-types",
    "reports": "/v1/reports",
    "docs": "/docs",
    "openapi": "/openapi.json",
    "problems": "/problems",
    "live": "/health/live",
    "ready": "/health/ready",
}


class IndexItem:
    """``GET /``."""

    def __init__(self, *, max_upload_bytes: int) -> None:
        index = Index(
            name="Clamor",
            version=version("clamor"),
            limits=UploadLimits(max_upload_bytes=max_upload_bytes),
            links=LINKS,
        )
        self._encoded = msgspec.json.encode(index)

    @operation(scope=None, answer=Index, also={303: None, 304: None})
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Return the name, version, limits and main paths of the service. A client that prefers
        HTML, such as a browser, is redirected to the start page with 303.
        """
        # Both answers have the same URL: a cache must not mix them up.
        resp.append_header("Vary", "Accept")
        if _prefers_html(req):
            resp.status = falcon.HTTP_303
            resp.location = START_PAGE
            resp.cache_control = ["public", "no-cache"]
            return
        responses.published(req, resp, self._encoded, media_type=falcon.MEDIA_JSON)

    on_head = on_get


def _prefers_html(req: falcon.Request) -> bool:
    # JSON comes first: it is the answer to "*/*", which programs send.
    preferred = req.client_prefers((falcon.MEDIA_JSON, falcon.MEDIA_HTML))
    return preferred == falcon.MEDIA_HTML
