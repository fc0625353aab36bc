"""``/problems``: what each kind of problem means and how to fix it."""

from __future__ import annotations

from collections.abc import Iterator
from http import HTTPStatus
from itertools import groupby

from services.http import errors
from services.http.errors import ServiceError
from services.http.problems import PROBLEM_JSON, TYPES
from services.openapi import json_schemas
from services.openapi.documentation.markup import (
    Markup,
    block,
    element,
    inline,
    joined,
    prose,
    shown_json,
)
from services.openapi.documentation.pages import page
from services.openapi.objects import DocumentObject
from services.openapi.responses import problem_example


def render_list() -> bytes:
    """Return the page that lists all kinds."""
    by_status = sorted(errors.kinds(), key=lambda kind: (kind.status, kind.name))
    sections = []
    for status, kinds in groupby(by_status, key=lambda kind: kind.status):
        rows = [
            element("li", element("a", kind.name, href=TYPES + kind.name), " ", kind.title)
            for kind in kinds
        ]
        sections.append(element("h2", f"{status} {HTTPStatus(status).phrase}", id=str(status)))
        sections.append(element("ul", *rows, class_="kinds"))
    main = joined(
        (
            element("h1", "Problems"),
            prose(
                f"Every error is answered with `{PROBLEM_JSON}` (RFC 9457). Its `type` is the"
                " address of one of these pages."
            ),
            *sections,
        )
    )
    return page("Problems", aside=_aside(), main=main)


def render(kind: type[ServiceError], document: DocumentObject) -> bytes:
    """Return the page of one kind, with the operations of a document that may return it."""
    places = list(_places(kind.name, document))
    main = joined(
        (
            element("h1", kind.title),
            element(
                "p",
                element("code", TYPES + kind.name),
                f" · {kind.status} {HTTPStatus(kind.status).phrase}",
                class_="quiet",
            ),
            prose(json_schemas.prose(kind.__doc__)),
            *_advice(kind),
            element("h2", "Example"),
            block(shown_json(problem_example(kind)), label="Example"),
            *(
                (element("h2", "Operations that return it"), element("ul", *places, class_="kinds"))
                if places
                else ()
            ),
        )
    )
    return page(kind.title, aside=_aside(), main=main)


def _advice(kind: type[ServiceError]) -> Iterator[Markup]:
    if kind.advice:
        yield element("h2", "What to do")
        yield prose(json_schemas.prose(kind.advice))


def _places(name: str, document: DocumentObject) -> Iterator[Markup]:
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            for response in operation["responses"].values():
                content = response.get("content", {}).get(PROBLEM_JSON)
                if content is not None and name in content["examples"]:
                    yield element(
                        "li",
                        element(
                            "a",
                            element("span", method.upper(), class_=f"method {method}"),
                            " ",
                            element("span", path, class_="path"),
                            href=f"/docs#{operation['operationId']}",
                        ),
                        " ",
                        inline(operation["summary"]),
                    )


def _aside() -> Markup:
    links = [
        element("li", element("a", kind.name, href=TYPES + kind.name)) for kind in errors.kinds()
    ]
    return element(
        "nav",
        element("details", element("summary", "All problems"), element("ul", *links)),
        class_="contents",
        aria_label="All problems",
    )
