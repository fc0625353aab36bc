"""Answers that are asked for again and again: a caller that has one is not sent it again.

The tag is made of the bytes of the answer, so that it covers all that is shown: also what moves
with time alone, such as how long a session will still take. To look whether something has changed
costs what a look at it costs, for which ``GET /v1/sessions/{session_id}`` needs one statement; what
is saved is the answer itself.
"""

from __future__ import annotations

import hashlib

import falcon
import msgspec


def is_current(req: falcon.Request, resp: falcon.Response, *, tag: str) -> bool:
    """Set the caching headers of bytes; return True after answering 304 if the client's copy is
    current.
    """
    resp.etag = tag
    # Private: shared caches must not give it to who has no key. What bytes are is never guessed.
    resp.cache_control = ["private", "no-cache"]
    resp.set_header("X-Content-Type-Options", "nosniff")
    if not _is_known(req, tag):
        return False
    resp.status = falcon.HTTP_304
    return True


def answer(req: falcon.Request, resp: falcon.Response, body: object) -> None:
    """Answer with JSON, or with 304 to a caller that has it."""
    data = msgspec.json.encode(body)
    tag = hashlib.blake2b(data, digest_size=12).hexdigest()
    resp.set_header("ETag", f'"{tag}"')
    # Kept by the caller alone, and never shown without asking whether it still holds.
    resp.set_header("Cache-Control", "private, no-cache")
    if _is_known(req, tag):
        resp.status = falcon.HTTP_304
        return
    resp.status = falcon.HTTP_200
    resp.content_type = falcon.MEDIA_JSON
    resp.data = data


def _is_known(req: falcon.Request, tag: str) -> bool:
    return any(each in ("*", tag) for each in req.if_none_match or ())
