"""The documentation pages: complete, escaped, and without other hosts."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import re
import shlex
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import pytest

from services.cli.actions.openapi import unconnected_routes
from services.http import errors
from services.openapi import document as openapi
from services.openapi.documentation import curl, markup, pages, problem_pages, reference, schemas
from services.openapi.objects import DocumentObject, OperationObject, SchemaObject

#: Members by which the page is rendered from a document; the test leaves them as they are.
KEPT = ("in", "tags", "type", "operationId")
EVIL = "<script>alert('here')</script>&\"' `<b>`"


class Page(HTMLParser):
    """Collects a page's elements, their IDs, and the targets of its links."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(page.decode())
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in ("meta", "link", "br", "hr"):
            self.open.append(tag)
        for name, value in attrs:
            assert not name.startswith("on")
            assert name not in ("src", "style")
            if name == "id":
                self.ids.append(value or "")
            elif name == "href":
                self.links.append(value or "")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def document() -> Iterator[DocumentObject]:
    with unconnected_routes() as routes:
        yield openapi.document(routes)


def operations(document: DocumentObject) -> list[tuple[str, str, OperationObject]]:
    return [
        (path, method.upper(), operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]


def test_every_operation_and_schema_is_on_the_page_and_every_link_leads_somewhere(
    document: DocumentObject,
) -> None:
    page = Page(reference.render(document))
    assert len(set(page.ids)) == len(page.ids)
    for path, _, operation in operations(document):
        assert operation["operationId"] in page.ids
        assert path in page.text
    assert {f"schema-{name}" for name in document["components"]["schemas"]} <= set(page.ids)
    known = {kind.name for kind in errors.kinds()}
    for link in page.links:
        if link.startswith("#"):
            assert link[1:] in page.ids
        elif link.startswith("/problems/"):
            assert link.removeprefix("/problems/") in known
        else:
            assert link in ("/docs", "/problems", "/openapi.json", "data:,")


def test_every_kind_of_problem_has_a_page(document: DocumentObject) -> None:
    listed = Page(problem_pages.render_list())
    anchors = set(Page(reference.render(document)).ids)
    for kind in errors.kinds():
        assert f"/problems/{kind.name}" in listed.links
        page = Page(problem_pages.render(kind, document))
        assert kind.title in page.text
        assert str(kind.status) in page.text
        assert kind.advice.split(".")[0].replace("``", "") in page.text
        for link in page.links:
            assert not link.startswith("/docs#") or link[6:] in anchors


def test_whatever_is_in_the_document_is_escaped(document: DocumentObject) -> None:
    def poisoned(value: Any) -> Any:
        if isinstance(value, str):
            return value if value.startswith("#/") else value + EVIL
        if isinstance(value, list):
            return [poisoned(each) for each in value]
        if isinstance(value, dict):
            return {name: each if name in KEPT else poisoned(each) for name, each in value.items()}
        return value

    evil = poisoned(copy.deepcopy(document))
    page = Page(reference.render(evil))
    assert "alert('here')" in page.text
    assert "script" not in page.tags
    assert "b" not in page.tags


def test_a_policy_allows_the_style_and_nothing_else(document: DocumentObject) -> None:
    page = reference.render(document).decode()
    (style,) = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in pages.policy()
    assert "default-src 'none'" in pages.policy()
    assert "url(" not in style
    assert "@import" not in style


def test_every_call_is_one_that_a_shell_takes(document: DocumentObject) -> None:
    for path, method, operation in operations(document):
        for call in curl.calls(path, method, operation):
            words = shlex.split(call.replace("\\\n", ""))
            assert words[0] == "curl"
            assert "{" not in next(word for word in words if word.startswith("$URL"))
            assert ("Authorization: Bearer $KEY" in words) == bool(operation["security"])
            if method != "GET":
                assert "-X" in words or "-F" in words or "-d" in words or "--data-binary" in words


def test_a_call_bears_what_the_example_has(document: DocumentObject) -> None:
    def of(path: str, method: str) -> list[str]:
        return list(curl.calls(path, method.upper(), document["paths"][path][method]))

    (promote,) = of("/v1/models/{model_id}/promote", "post")
    assert json.loads(shlex.split(promote.replace("\\\n", ""))[-1]) == {"force": False}
    uploads = of("/v1/sessions", "post")
    assert any("--data-binary @street.flac" in call for call in uploads)
    assert any("-F file=@street.flac" in call for call in uploads)
    assert "limit=100" in of("/v1/sessions/{session_id}/detections", "get")[0]
    assert of("/v1/sessions/{session_id}/events", "get")[0].startswith("curl -N ")
    assert "-X DELETE" in of("/v1/keys/{key_id}", "delete")[0]
    assert "-X POST" in of("/v1/sessions/{session_id}/cancel", "post")[0]


@pytest.mark.parametrize(
    ("schema", "told"),
    [
        ({"type": "string", "format": "uuid"}, "string (uuid)"),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, "integer or null"),
        ({"type": "array", "items": {"type": "number"}}, "list of number"),
        ({"type": "object", "additionalProperties": {"type": "string"}}, "object of string"),
        ({"enum": ["a", "b", "c"]}, "a, b or c"),
        ({}, "anything"),
    ],
)
def test_kinds_of_values_are_told_in_words(schema: SchemaObject, told: str) -> None:
    assert Page(schemas.kind(schema).encode()).text == told


def test_markup_is_made_of_elements() -> None:
    made = markup.element("a", "x < y", markup.element("b", "&"), class_="it's", aria_label='"')
    assert made == '<a class="it&#x27;s" aria-label="&quot;">x &lt; y<b>&amp;</b></a>'
    assert markup.prose("One `a<b`.\n\nTwo.") == "<p>One <code>a&lt;b</code>.</p><p>Two.</p>"
