"""How a resource answers: JSON, with or without a tag, and bytes that the client may have already.

A client that has an answer is not sent it again: it names the tag of what it has, and is answered
304. The tag of JSON is made of the bytes of the answer, so that it covers all that is shown, also
what moves with time alone, such as how long a session will still take. Looking whether something
has changed costs what looking at it costs; the answer itself is saved.
"""

from __future__ import annotations

import hashlib

import falcon
import msgspec


def answer(resp: falcon.Response, body: object, *, status: int = 200) -> None:
    """Answer with JSON."""
    _send(resp, msgspec.json.encode(body), media_type=falcon.MEDIA_JSON)
    resp.status = status


def conditional(req: falcon.Request, resp: falcon.Response, body: object) -> None:
    """Answer with JSON, or with 304 to a client that has it."""
    data = msgspec.json.encode(body)
    # Kept by the client alone, and never shown without asking whether it still holds.
    tag = hashlib.blake2b(data, digest_size=12).hexdigest()
    if not _is_current(req, resp, tag=tag, kept_by="private"):
        _send(resp, data, media_type=falcon.MEDIA_JSON)


def published(
    req: falcon.Request, resp: falcon.Response, content: bytes, *, media_type: str
) -> None:
    """Answer with what is the same for all and changes with a release only, or with 304."""
    resp.set_header("X-Content-Type-Options", "nosniff")
    # Kept by whoever likes, but asked about each time: a new release is seen at once.
    tag = hashlib.sha256(content).hexdigest()[:32]
    if not _is_current(req, resp, tag=tag, kept_by="public"):
        _send(resp, content, media_type=media_type)


def is_current(req: falcon.Request, resp: falcon.Response, *, tag: str) -> bool:
    """Set the caching headers of bytes; return True after answering 304 to a client that has them.

    Shared caches must not give them to who has no key, and what they are is never guessed.
    """
    resp.set_header("X-Content-Type-Options", "nosniff")
    return _is_current(req, resp, tag=tag, kept_by="private")


def _is_current(req: falcon.Request, resp: falcon.Response, *, tag: str, kept_by: str) -> bool:
    resp.etag = tag
    resp.cache_control = [kept_by, "no-cache"]
    if not any(each in ("*", tag) for each in req.if_none_match or ()):
        return False
    resp.status = falcon.HTTP_304
    return True


def _send(resp: falcon.Response, data: bytes, *, media_type: str) -> None:
    resp.content_type = media_type
    resp.data = data
