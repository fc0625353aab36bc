"""The common frame of the documentation pages, and their headers.

A page is one file with an inline style and no scripts. Its policy allows the style by hash and
forbids everything else, so that injected content cannot do anything.
"""

from __future__ import annotations

import base64
import functools
import hashlib
from importlib import resources

import falcon

from services.http import responses
from services.openapi.documentation.markup import Markup, element, joined


@functools.cache
def style() -> str:
    """Return the style sheet."""
    return (resources.files("services.openapi.documentation") / "style.css").read_text()


@functools.cache
def policy() -> str:
    """Return the Content-Security-Policy of a page: only its style and the empty icon may load."""
    digest = base64.b64encode(hashlib.sha256(style().encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none';"
        " form-action 'none'; frame-ancestors 'none'"
    )


def page(title: str, *, aside: Markup, main: Markup) -> bytes:
    """Return a page of the documentation."""
    top = element(
        "header",
        element("a", "Skip to content", class_="skip", href="#main"),
        element(
            "p",
            element("a", "Clamor", href="/docs", class_="brand"),
            element("a", "API", href="/docs"),
            element("a", "Problems", href="/problems"),
            element("a", "openapi.json", href="/openapi.json"),
        ),
        class_="top",
    )
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", f"{title} · Clamor"),
        # An empty icon, so that browsers do not request one.
        element("link", rel="icon", href="data:,"),
        element("style", Markup(style())),
    )
    body = element(
        "body",
        top,
        element("div", aside, element("main", main, id="main", tabindex="-1"), class_="columns"),
    )
    whole = joined((Markup("<!doctype html>\n"), element("html", head, body, lang="en")))
    return whole.encode()


def answer(req: falcon.Request, resp: falcon.Response, content: bytes) -> None:
    """Answer with a page, or with 304 if the client's copy is current."""
    resp.set_header("Content-Security-Policy", policy())
    resp.set_header("Referrer-Policy", "no-referrer")
    responses.published(req, resp, content, media_type=falcon.MEDIA_HTML)
