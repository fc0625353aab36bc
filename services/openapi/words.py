"""Texts of the OpenAPI document that several operations share."""

from __future__ import annotations

from services.openapi.objects import HeaderObject, ParameterObject

#: Descriptions of the tags, by the first part of the path.
TAGS = {
    "sessions": "Recordings: upload, progress and results.",
    "uploads": "Direct uploads to the blob store.",
    "detections": "Detected sounds in all recordings.",
    "noise-types": "The classes of detections, as a tree with names in several languages.",
    "batches": "Many recordings in one call.",
    "models": "The classifiers, and how to train new ones.",
    "trainings": "Progress of the training of models.",
    "validations": "Quality of models.",
    "exports": "Detections as files, for other programs.",
    "webhooks": "URLs that are notified when sessions end, and the deliveries to them.",
    "reports": "Daily reports: sessions, detections and levels.",
    "users": "Users of the API. For administrators.",
    "keys": "API keys of users. For administrators.",
    "usage": "Usage and quota of a user.",
    "jobs": "Periodic jobs and their runs. For administrators.",
    "health": "Liveness and readiness probes.",
    "metrics": "Metrics of the installation, for Prometheus.",
    "documentation": "Documentation of the API and its problems.",
}
#: First parts of paths that share the tag ``documentation``.
DOCUMENTATION = ("", "openapi", "docs", "problems")
DESCRIPTION = """\
Clamor detects noise in recordings: what made it, when, how loud it was, and with what confidence.

Send an API key with every request (`Authorization: Bearer clamor_...`), except where an operation
needs none. Field names contain units; `null` means "not known yet" or "none". Every error is
`application/problem+json` (RFC 9457), and its `type` is the address of a page that explains it.
"""


#: Response headers.
HEADERS: dict[str, HeaderObject] = {
    "X-Request-ID": {
        "description": "ID of the request in the server's log. A valid ID in the request is"
        " adopted.",
        "required": True,
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$"},
    },
    "Location": {
        "description": "URL of the created resource, or of the one to continue with.",
        "required": True,
        "schema": {"type": "string", "format": "uri-reference"},
    },
    "ETag": {
        "description": "Identifies this version of the answer, for use in `If-None-Match`.",
        "required": True,
        "schema": {"type": "string"},
    },
    "Content-Language": {
        "description": "Language of the texts in the answer, as an IETF tag.",
        "required": True,
        "schema": {"type": "string"},
    },
    "Vary": {
        "description": "Request headers that the answer depends on.",
        "required": True,
        "schema": {"type": "string"},
    },
    "Link": {
        "description": 'URL of the next page, `rel="next"`; absent on the last page.',
        "schema": {"type": "string"},
    },
    "Retry-After": {
        "description": "Seconds to wait before a retry.",
        "schema": {"type": "integer", "minimum": 0},
    },
    "RateLimit-Policy": {
        "description": "Rate limit of the key: `q` requests in `w` seconds. Absent if the server"
        " sets no limit.",
        "schema": {"type": "string"},
        "example": '"default";q=200;w=4',
    },
    "RateLimit": {
        "description": "Requests left (`r`), and seconds (`t`) until all of them are available"
        " again or, if none is left, until the next one is.",
        "schema": {"type": "string"},
        "example": '"default";r=187;t=1',
    },
    "Idempotent-Replayed": {
        "description": "The request was processed before; this is the stored answer.",
        "schema": {"const": "true"},
    },
    "WWW-Authenticate": {
        "description": "How to send the API key.",
        "required": True,
        "schema": {"type": "string"},
    },
}
#: Headers of every answer to a request with an API key.
RATE_HEADERS = ("RateLimit-Policy", "RateLimit")
#: Request headers that lead to another status than usual, by that status.
CONDITIONS: dict[int, ParameterObject] = {
    206: {
        "name": "Range",
        "in": "header",
        "description": "Requests a range of bytes.",
        "schema": {"type": "string"},
        "example": "bytes=0-65535",
    },
    304: {
        "name": "If-None-Match",
        "in": "header",
        "description": "The `ETag` of an earlier answer. If nothing has changed since, the status"
        " is 304 and there is no body.",
        "schema": {"type": "string"},
    },
}
#: Selects the language of an answer.
ACCEPT_LANGUAGE: ParameterObject = {
    "name": "Accept-Language",
    "in": "header",
    "description": "Preferred languages, optionally with weights. `de-AT` falls back to `de`; if"
    " none of them is available, the answer is in English.",
    "schema": {"type": "string"},
    "example": "de-AT, fr;q=0.5",
}
#: Headers of an answer in a negotiated language.
LANGUAGE_HEADERS = ("Content-Language", "Vary")
#: Makes a POST safe to repeat.
IDEMPOTENCY_KEY: ParameterObject = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "A unique string for this request, preferably a UUID. If the request is repeated"
    " with the same key within 24 hours, it is not processed again, and the first answer is"
    " returned.",
    # As services/http/idempotency.py parses it: with or without quotes.
    "schema": {
        "type": "string",
        "pattern": r'^("([ !#-\[\]-~]|\\["\\]){1,255}"|[!#-+\--:<-\[\]-~]{1,255})$',
    },
    "example": '"5f0c8a4e-0f5b-4f57-9d2e-7b0a4f0e3c11"',
}
#: Headers of problems, and the statuses that have them.
HEADERS_OF = {"Retry-After": (409, 429, 503), "WWW-Authenticate": (401,)}
