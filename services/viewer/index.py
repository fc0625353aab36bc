"""``/``: a redirect to the start page for browsers, and an index of the API for other clients."""

from __future__ import annotations

import functools
from importlib.metadata import version

import falcon
import msgspec

from services.http import responses
from services.http.operations import operation
from services.http.resource import Resource

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


class IndexItem(Resource):
    """``GET /``."""

    @functools.cached_property
    def _encoded(self) -> bytes:
        index = Index(
            name="Clamor",
            version=version("clamor"),
            limits=UploadLimits(max_upload_bytes=self.deps.settings.max_upload_bytes),
            links=LINKS,
        )
        return msgspec.json.encode(index)

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


def _prefers_html(req: falcon.Request) -> bool:
    # JSON comes first: it is the answer to "*/*", which programs send.
    preferred = req.client_prefers((falcon.MEDIA_JSON, falcon.MEDIA_HTML))
    return preferred == falcon.MEDIA_HTML
