"""Generates the curl call of an operation from its examples."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from urllib.parse import quote, urlencode

import falcon

from services.openapi.objects import OperationObject

#: File name in the example of a raw body; any supported audio works, whatever its media type.
RAW_FILE = "street.flac"


def calls(path: str, method: str, operation: OperationObject) -> Iterator[str]:
    """Yield a call for each media type that an operation accepts."""
    bodies = operation.get("requestBody", {}).get("content", {})
    first = _call(path, method, operation)
    if not bodies:
        yield _lines(first)
    for media, body in bodies.items():
        yield _lines([*first, *_body(media, body.get("example"))])


def _call(path: str, method: str, operation: OperationObject) -> list[str]:
    query: dict[str, object] = {}
    for parameter in operation.get("parameters", ()):
        if "example" not in parameter:
            continue
        if parameter["in"] == "path":
            path = path.replace(
                f"{{{parameter['name']}}}", quote(str(parameter["example"]), safe="")
            )
        elif parameter["in"] == "query":
            query[parameter["name"]] = parameter["example"]
    asked = f"?{urlencode(query, doseq=True)}" if query else ""
    options = _streaming(operation)
    # curl uses POST by default if there is a body.
    if method != ("POST" if "requestBody" in operation else "GET"):
        options += f"-X {method} "
    words = [f'curl {options}"$URL{path}{asked}"']
    if operation["security"]:
        words.append('-H "Authorization: Bearer $KEY"')
    return words


def _streaming(operation: OperationObject) -> str:
    """Return options for the output: unbuffered for a stream, to a file for binary data."""
    status = min(operation["responses"])
    kinds = list(operation["responses"][status].get("content", ()))
    if "text/event-stream" in kinds:
        return "-N "
    is_text = any(kind == falcon.MEDIA_JSON or kind.startswith("text/") for kind in kinds)
    return "" if is_text else "-OJ "


def _body(media: str, example: object) -> Iterator[str]:
    if media == falcon.MEDIA_JSON:
        yield f"-H 'Content-Type: {media}'"
        yield f"-d {shlex.quote(json.dumps(example, ensure_ascii=False))}"
    elif media == falcon.MEDIA_MULTIPART:
        for name, value in example.items() if isinstance(example, Mapping) else ():
            for each in (
                value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
            ):
                yield f"-F {shlex.quote(f'{name}={each}')}"
    else:
        yield f"--data-binary @{RAW_FILE}"


def _lines(words: Sequence[str]) -> str:
    return " \\\n     ".join(words)
