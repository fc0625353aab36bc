"""Responses: JSON with or without an ``ETag``, other content with conditional requests, and files.

A client that already has the current version sends its ``ETag`` and gets 304. The ``ETag`` of JSON
is a hash of the response, so it covers everything shown, including values that change with time
alone, such as the remaining time of a session. A conditional request costs the server as much as
a full one; only the transfer is saved.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader

import falcon
import msgspec

from db.blobs.blob_store import READ_BYTES
from db.blobs.errors import BlobMissing
from services.http.errors import ServiceError


def answer(
    resp: falcon.Response, body: object, *, status: int = 200, location: str | None = None
) -> None:
    """Answer with JSON; ``location`` is the path of what was created."""
    _send(resp, msgspec.json.encode(body), media_type=falcon.MEDIA_JSON)
    resp.status = status
    if location is not None:
        resp.location = location


def conditional(req: falcon.Request, resp: falcon.Response, body: object) -> None:
    """Answer with JSON, or with 304 if the client's copy is current."""
    data = msgspec.json.encode(body)
    # Cacheable by the client only, revalidated on every use.
    tag = hashlib.blake2b(data, digest_size=12).hexdigest()
    if not _is_current(req, resp, tag=tag, kept_by="private"):
        _send(resp, data, media_type=falcon.MEDIA_JSON)


def published(
    req: falcon.Request, resp: falcon.Response, content: bytes, *, media_type: str
) -> None:
    """Answer with content that is the same for all and changes per release only, or with 304."""
    # Cacheable by anyone, revalidated on every use, so that a new release is seen at once.
    tag = hashlib.sha256(content).hexdigest()[:32]
    if not _is_current(req, resp, tag=tag, kept_by="public"):
        _send(resp, content, media_type=media_type)


def is_current(req: falcon.Request, resp: falcon.Response, *, tag: str) -> bool:
    """Set caching headers; return True after answering 304 if the client's copy is current.

    Shared caches must not serve the content to callers without a key.
    """
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


@contextmanager
def if_missing(problem: ServiceError) -> Iterator[None]:
    """Raise a problem if the block reads a blob that is no longer stored."""
    try:
        yield
    except BlobMissing:
        raise problem from None


class FileRange:
    """Iterates over a byte range of a stored file in pieces; the server closes it."""

    def __init__(self, stored: BufferedReader, start: int, stop: int) -> None:
        self._stored = stored
        self._n_left = stop - start
        stored.seek(start)

    def __iter__(self) -> Iterator[bytes]:
        while piece := self._stored.read(min(READ_BYTES, self._n_left)):
            self._n_left -= len(piece)
            yield piece

    def close(self) -> None:
        self._stored.close()
