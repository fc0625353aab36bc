"""``/sessions/{session_id}``: a session in a browser.

The page is a handful of files of this package. Nobody needs a key to get them: the page asks for
one, and shows what the API gives its holder. Nothing in it comes from another host, and nothing
that a recording is called can become a script.
"""

from __future__ import annotations

import uuid
from importlib import resources

import falcon

from services import published
from services.contract import operation
from services.errors import UnknownRoute

FOLDER = "page"
MEDIA_TYPES = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
#: Scripts, styles and calls to this server alone; pictures and sound also from the page's memory.
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


def files() -> dict[str, bytes]:
    """The files of the page, by name."""
    folder = resources.files("services") / FOLDER
    return {each.name: each.read_bytes() for each in folder.iterdir()}


def answer(req: falcon.Request, resp: falcon.Response, content: bytes, *, name: str) -> None:
    """Answer with a file of a name."""
    resp.set_headers(HEADERS)
    published.answer(req, resp, content, media_type=MEDIA_TYPES[name.rpartition(".")[2]])


class SessionPage:
    """``GET /sessions/{session_id}``."""

    def __init__(self, page: dict[str, bytes]) -> None:
        self._html = page["session.html"]

    @operation(scope=None, media=falcon.MEDIA_HTML, also={304: None}, is_described=False)
    def on_get(self, req: falcon.Request, resp: falcon.Response, session_id: uuid.UUID) -> None:
        """The page of a session; the same for all: it asks for the session itself."""
        answer(req, resp, self._html, name="session.html")


class PageFiles:
    """``GET /page/{name}``."""

    def __init__(self, page: dict[str, bytes]) -> None:
        self._page = page

    @operation(
        scope=None, media="*/*", also={304: None}, problems=(UnknownRoute,), is_described=False
    )
    def on_get(self, req: falcon.Request, resp: falcon.Response, name: str) -> None:
        """A file that the page of a session is made of."""
        content = self._page.get(name)
        if content is None:
            raise UnknownRoute("the page has no file of this name")
        answer(req, resp, content, name=name)
