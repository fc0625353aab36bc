"""The pages for a browser: ``/sessions``, and ``/sessions/{session_id}``.

The pages are static files of this package, served without a key. Each page asks for a key and
shows what the API returns for it. They load nothing from another host, and treat file names and
metadata as text only.
"""

from __future__ import annotations

import functools
import uuid
from importlib import resources

import falcon
import msgspec

from services.http import errors, responses
from services.http.operations import operation
from services.http.request_errors import UnknownRoute
from services.http.resource import Resource

FOLDER = "page"
#: A generated file with the remedy for each kind of problem, which the pages display.
REMEDIES = "remedies.json"
MEDIA_TYPES = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "json": falcon.MEDIA_JSON,
    "svg": "image/svg+xml",
}
#: Scripts, styles and requests only from and to this server; pictures and sound also from blobs.
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src 'self' blob:",
        "media-src blob:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
    )
)
HEADERS = (
    ("Content-Security-Policy", POLICY),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Referrer-Policy", "no-referrer"),
)


@functools.cache
def files() -> dict[str, bytes]:
    """Return the files of the pages, by name."""
    folder = resources.files(__package__) / FOLDER
    return {each.name: each.read_bytes() for each in folder.iterdir()} | {REMEDIES: _remedies()}


def answer(req: falcon.Request, resp: falcon.Response, content: bytes, *, name: str) -> None:
    """Answer with the file called ``name``."""
    resp.set_headers(HEADERS)
    responses.published(req, resp, content, media_type=MEDIA_TYPES[name.rpartition(".")[2]])


class StartPage(Resource):
    """``GET /sessions``."""

    # The query contains the filters of the list: the page reads them, and the API validates them.
    @operation(
        scope=None, media=falcon.MEDIA_HTML, also={304: None}, is_described=False, any_query=True
    )
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Answer with the page that sends recordings and lists sessions."""
        answer(req, resp, files()["start.html"], name="start.html")


class SessionHtml(Resource):
    """``GET /sessions/{session_id}``."""

    @operation(scope=None, media=falcon.MEDIA_HTML, also={304: None}, is_described=False)
    def on_get(self, req: falcon.Request, resp: falcon.Response, session_id: uuid.UUID) -> None:
        """Answer with the page of a session, which is the same for all: it fetches the session."""
        answer(req, resp, files()["session.html"], name="session.html")


class PageFiles(Resource):
    """``GET /page/{name}``."""

    @operation(
        scope=None, media="*/*", also={304: None}, problems=(UnknownRoute,), is_described=False
    )
    def on_get(self, req: falcon.Request, resp: falcon.Response, name: str) -> None:
        """Answer with a file used by the pages."""
        content = files().get(name)
        if content is None:
            raise UnknownRoute("the pages have no file of this name")
        answer(req, resp, content, name=name)


def _remedies() -> bytes:
    advice = {kind.name: kind.advice.replace("``", "") for kind in errors.kinds()}
    return msgspec.json.encode(advice)
