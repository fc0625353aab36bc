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


def answer(req: falcon.Request, resp: falcon.Response, body: object) -> None:
    """Answer with JSON, or with 304 to a caller that has it."""
    data = msgspec.json.encode(body)
    tag = hashlib.blake2b(data, digest_size=12).hexdigest()
    resp.set_header("ETag", f'"{tag}"')
    # Kept by the caller alone, and never shown without asking whether it still holds.
    resp.set_header("Cache-Control", "private, no-cache")
    known = req.if_none_match
    if known is not None and any(each in ("*", tag) for each in known):
        resp.status = falcon.HTTP_304
        return
    resp.status = falcon.HTTP_200
    resp.content_type = falcon.MEDIA_JSON
    resp.data = data
