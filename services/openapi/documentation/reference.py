"""``/docs``: the OpenAPI document as an HTML page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from http import HTTPStatus

from services.http.problems import PROBLEM_JSON, TYPES
from services.openapi.documentation import curl, schemas
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
from services.openapi.objects import DocumentObject, OperationObject, SchemaObject, TagObject

#: A method, a path and the operation.
Place = tuple[str, str, OperationObject]


def render(document: DocumentObject) -> bytes:
    """Return the page of a document."""
    info = document["info"]
    sections = [_section(tag, list(_of(document, tag["name"]))) for tag in document["tags"]]
    main = joined(
        (
            element("h1", f"{info['title']} API"),
            element("p", f"Version {info['version']}", class_="quiet"),
            prose(info["description"]),
            prose("The calls below work in a shell with these variables:"),
            block("URL=http://127.0.0.1:8000\nKEY=clamor_...", label="Variables of the calls"),
            *sections,
            _schemas(document["components"]["schemas"]),
        )
    )
    return page("API", aside=_contents(document), main=main)


def _of(document: DocumentObject, tag: str) -> Iterator[Place]:
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if tag in operation["tags"]:
                yield method.upper(), path, operation


def _contents(document: DocumentObject) -> Markup:
    """Return the table of contents by tag. It starts closed where there is no room beside it."""
    groups = []
    for tag in document["tags"]:
        links = [
            element(
                "li",
                element(
                    "a",
                    element("span", method, class_=f"method {method.lower()}"),
                    " ",
                    element("span", _short(path), class_="path"),
                    href=f"#{operation['operationId']}",
                ),
            )
            for method, path, operation in _of(document, tag["name"])
        ]
        groups.append(element("p", element("a", tag["name"], href=f"#{tag['name']}")))
        groups.append(element("ul", *links))
    groups.append(element("p", element("a", "Schemas", href="#schemas")))
    return element(
        "nav",
        element("details", element("summary", "Contents"), *groups),
        class_="contents",
        aria_label="Contents",
    )


def _short(path: str) -> str:
    return path.removeprefix("/v1")


def _section(tag: TagObject, operations: list[Place]) -> Markup:
    return element(
        "section",
        element("h2", tag["name"].capitalize(), id=tag["name"]),
        prose(tag["description"]),
        *(_operation(*place) for place in operations),
    )


def _operation(method: str, path: str, operation: OperationObject) -> Markup:
    name = operation["operationId"]
    calls = list(curl.calls(path, method, operation))
    parts = [
        element(
            "h3",
            element(
                "a",
                element("span", method, class_=f"method {method.lower()}"),
                " ",
                element("span", path, class_="path"),
                href=f"#{name}",
            ),
        ),
        element("p", inline(operation["summary"]), class_="summary"),
        prose(operation["description"]),
        *_parameters(operation),
        *_bodies(operation),
        element("h4", "Call"),
        *(block(call, label=f"Call of {name}") for call in calls),
        *_answers(name, operation),
        *_problems(operation),
    ]
    return element("article", *parts, id=name)


def _parameters(operation: OperationObject) -> Iterator[Markup]:
    by_place = {"path": "Path parameters", "query": "Query parameters", "header": "Headers"}
    for place, told in by_place.items():
        found = [each for each in operation.get("parameters", ()) if each["in"] == place]
        # The names of path parameters need no explanation.
        if place == "path" or not found:
            continue
        yield element("h4", told)
        yield schemas.table(
            (
                each["name"],
                {**each["schema"], "description": each.get("description", "")},
                each.get("required", False),
            )
            for each in found
        )


def _bodies(operation: OperationObject) -> Iterator[Markup]:
    body = operation.get("requestBody")
    if body is None:
        return
    yield element("h4", "Body" if body["required"] else "Body (optional)")
    for media, content in body["content"].items():
        schema = content["schema"]
        if "properties" in schema:
            yield element("p", element("code", media), ": ", inline(schema["description"]))
            yield schemas.fields(schema)
        else:
            yield element("p", element("code", media), ": ", schemas.kind(schema))


def _answers(name: str, operation: OperationObject) -> Iterator[Markup]:
    yield element("h4", "Answers")
    for status, response in operation["responses"].items():
        contents = {
            media: content
            for media, content in response.get("content", {}).items()
            if media != PROBLEM_JSON
        }
        if int(status) >= 400 and not contents:
            continue
        kinds = [
            joined((" ", element("code", media), ": ", schemas.kind(content["schema"])))
            for media, content in contents.items()
        ]
        yield element(
            "p",
            element("strong", status),
            f" {HTTPStatus(int(status)).phrase}",
            *kinds,
        )
        for content in contents.values():
            if "example" in content:
                example = content["example"]
                told = example if isinstance(example, str) else shown_json(example)
                yield block(told.rstrip(), label=f"Answer of {name}")


def _problems(operation: OperationObject) -> Iterator[Markup]:
    rows = []
    for status, response in operation["responses"].items():
        content = response.get("content", {}).get(PROBLEM_JSON)
        for name in content["examples"] if content else ():
            link = element("a", name, href=TYPES + name)
            rows.append(element("li", element("strong", status), " ", link))
    if rows:
        yield element("h4", "Problems")
        yield element("ul", *rows, class_="problems")


def _schemas(components: Mapping[str, SchemaObject]) -> Markup:
    listed = [
        element(
            "article",
            element("h3", element("a", name, href=f"#schema-{name}")),
            prose(schema["description"]),
            schemas.fields(schema),
            id=f"schema-{name}",
        )
        for name, schema in sorted(components.items())
    ]
    return element("section", element("h2", "Schemas", id="schemas"), *listed)
