"""Answers that are the same for all, and change with a release only."""

from __future__ import annotations

import hashlib

import falcon


def answer(req: falcon.Request, resp: falcon.Response, content: bytes, *, media_type: str) -> None:
    """Answer with it, or with 304 to a caller that has this very one."""
    tag = hashlib.sha256(content).hexdigest()[:32]
    resp.etag = tag
    # Kept by whoever likes, but asked about each time: a new release is seen at once.
    resp.cache_control = ["public", "no-cache"]
    resp.set_header("X-Content-Type-Options", "nosniff")
    if any(each in ("*", tag) for each in req.if_none_match or ()):
        resp.status = falcon.HTTP_304
        return
    resp.content_type = media_type
    resp.data = content
