"""What all pages of the documentation have in common, and how they are answered.

A page is one file: its style stands in it, and there is no script. The policy names the style by
its hash and forbids everything else, so that nothing that got into a page could do anything.
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
    """The style sheet."""
    return (resources.files("services.openapi.documentation") / "style.css").read_text()


@functools.cache
def policy() -> str:
    """What a browser may load for a page: its style, and the icon that it has not."""
    digest = base64.b64encode(hashlib.sha256(style().encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none';"
        " form-action 'none'; frame-ancestors 'none'"
    )


def page(title: str, *, aside: Markup, main: Markup) -> bytes:
    """A page of the documentation."""
    top = element(
        "header",
        element("a", "Skip to the text", class_="skip", href="#main"),
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
        # It has no icon, and no browser shall ask for one.
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
    """Answer with a page, unless the caller has this very one."""
    resp.set_header("Content-Security-Policy", policy())
    resp.set_header("Referrer-Policy", "no-referrer")
    responses.published(req, resp, content, media_type=falcon.MEDIA_HTML)
