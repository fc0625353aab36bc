"""What the OpenAPI document says in words of its own; see :mod:`services.openapi.document`."""

from __future__ import annotations

from typing import Any

#: What the groups of operations are about, by the first part of their paths.
TAGS = {
    "sessions": "Recordings on their way from upload to answer.",
    "uploads": "Recordings that go straight to the blob store.",
    "detections": "What was heard, in all recordings.",
    "noise-types": "What a detection may be of, as a tree with names in several languages.",
    "batches": "Many recordings in one call.",
    "models": "The classifiers by which recordings are heard, and how new ones are trained.",
    "trainings": "How far the training of a model is.",
    "validations": "How good a model is.",
    "exports": "Events as files, for other programs.",
    "webhooks": "Addresses that are told of sessions that end, and how telling them went.",
    "reports": "What happened on a day: sessions, what was heard, how loud it was.",
    "users": "Who may call; for administrators.",
    "keys": "By which keys users call; for administrators.",
    "usage": "What a user used, and what is left.",
    "jobs": "What the clock does, and how that went; for administrators.",
    "health": "Whether a process lives, and may be given requests.",
    "metrics": "Figures of the installation, for Prometheus.",
    "documentation": "What can be asked, and what may go wrong.",
}
#: First parts of paths that make one group.
DOCUMENTATION = ("", "openapi", "docs", "problems")
DESCRIPTION = """\
Clamor finds out what made noise in a recording, when, how loud, and how sure it is.

Every request shows an API key, `Authorization: Bearer clamor_...`, except where this says that
none is needed. Names of fields bear their units; `null` means that something is not known yet, or
that there is none. Every error is `application/problem+json` (RFC 9457), and its `type` leads to a
page that explains it.
"""


#: Headers of answers.
HEADERS: dict[str, Any] = {
    "X-Request-ID": {
        "description": "Finds this request in the server's log; the caller's own, if there was a"
        " sane one in the request.",
        "required": True,
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$"},
    },
    "Location": {
        "description": "Where to look at what was made.",
        "required": True,
        "schema": {"type": "string", "format": "uri-reference"},
    },
    "ETag": {
        "description": "Stands for this very answer; `If-None-Match` takes it.",
        "required": True,
        "schema": {"type": "string"},
    },
    "Content-Language": {
        "description": "The language of the answer's texts, as an IETF tag.",
        "required": True,
        "schema": {"type": "string"},
    },
    "Vary": {
        "description": "The headers of a request that the answer depends on.",
        "required": True,
        "schema": {"type": "string"},
    },
    "Link": {
        "description": 'Where the next page is, `rel="next"`; the last page has none.',
        "schema": {"type": "string"},
    },
    "Retry-After": {
        "description": "After how many seconds another try may help.",
        "schema": {"type": "integer", "minimum": 0},
    },
    "RateLimit-Policy": {
        "description": "How many requests (`q`) the key may make in how many seconds (`w`); not"
        " there if the server sets no limit.",
        "schema": {"type": "string"},
        "example": '"default";q=200;w=4',
    },
    "RateLimit": {
        "description": "How many requests are left (`r`), and in how many seconds (`t`) all of them"
        " are back, or the next one is if none is left.",
        "schema": {"type": "string"},
        "example": '"default";r=187;t=1',
    },
    "Idempotent-Replayed": {
        "description": "The request was done before, and this is its answer.",
        "schema": {"const": "true"},
    },
    "WWW-Authenticate": {
        "description": "How a key is shown.",
        "required": True,
        "schema": {"type": "string"},
    },
}
#: Headers of every answer to a request that shows a key.
RATE_HEADERS = ("RateLimit-Policy", "RateLimit")
#: By what a caller gets an answer of another status than usual.
CONDITIONS: dict[int, dict[str, Any]] = {
    206: {
        "name": "Range",
        "in": "header",
        "description": "Asks for a part of the bytes.",
        "schema": {"type": "string"},
        "example": "bytes=0-65535",
    },
    304: {
        "name": "If-None-Match",
        "in": "header",
        "description": "The `ETag` of an answer that the caller has: what has not changed since is"
        " not sent again.",
        "schema": {"type": "string"},
    },
}
#: Chooses the language of an answer.
ACCEPT_LANGUAGE: dict[str, Any] = {
    "name": "Accept-Language",
    "in": "header",
    "description": "The languages that the caller reads, best with weights. `de-AT` falls back to"
    " `de`; without a language that is available the answer is in English.",
    "schema": {"type": "string"},
    "example": "de-AT, fr;q=0.5",
}
#: Headers of an answer in the caller's language.
LANGUAGE_HEADERS = ("Content-Language", "Vary")
#: Makes a POST safe to repeat.
IDEMPOTENCY_KEY: dict[str, Any] = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "A string of the caller's own for this request, best a UUID. Sent again with the"
    " same key within 24 hours, the request does nothing again, and is answered as it was.",
    # As services/http/idempotency.py reads it: in quotes, or as it is.
    "schema": {
        "type": "string",
        "pattern": r'^("([ !#-\[\]-~]|\\["\\]){1,255}"|[!#-+\--:<-\[\]-~]{1,255})$',
    },
    "example": '"5f0c8a4e-0f5b-4f57-9d2e-7b0a4f0e3c11"',
}
#: Which headers a problem may bring, by its status.
HEADERS_OF = {"Retry-After": (409, 429, 503), "WWW-Authenticate": (401,)}
