"""Cursors: the position in a list at which a page begins.

A cursor contains the keys of the last row shown and a fingerprint of the list, its filters and its
order. A cursor of another list, or with other filters, is rejected. Cursors are not signed: every
page is scoped to the caller's API key, so a forged cursor is only a position in the caller's own
list.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Annotated, Any, Protocol, TypeVar
from urllib.parse import urlencode

import falcon
import msgspec

from db import typed
from db.queries.paging import Keys, Order
from services.http.errors import FieldError
from services.http.request_errors import InvalidParameter

#: Version of the cursor format; a new version invalidates existing cursors.
VERSION = 1


class PageQuery(msgspec.Struct, kw_only=True):
    """The paging parameters that every list accepts."""

    #: Maximum number of items per page.
    limit: Annotated[int, msgspec.Meta(ge=1, le=1_000)] = 100
    #: The ``next_cursor`` of the previous page; omit it for the first page.
    cursor: str | None = None


class Paged(Protocol):
    """A struct with the fields of `PageQuery`. A struct has only one base with fields, so a query
    with another base repeats them.
    """

    limit: int
    cursor: str | None


Asked = TypeVar("Asked", bound=Paged)


def after(req: falcon.Request, asked: Paged, order: Order) -> Keys | None:
    """Return the keys of the row after which the page begins; None for the first page.

    Raises
    ------
    InvalidParameter
        If the cursor belongs to another list, other filters or another order.
    """
    if asked.cursor is None:
        return None
    try:
        padded = asked.cursor.encode() + b"=" * (-len(asked.cursor) % 4)
        data = base64.b64decode(padded, altchars=b"-_", validate=True)
        version, word, keys = typed.decode(data, tuple[int, str, msgspec.Raw])
        found: Keys = typed.decode(keys, order.keys)
    except (binascii.Error, msgspec.DecodeError, UnicodeError, RecursionError):
        raise _refused("must be the 'next_cursor' of an earlier response") from None
    if version != VERSION or word != _word(req, asked):
        raise _refused("belongs to another list, filter or order; start again without a cursor")
    return found


def following(
    req: falcon.Request, resp: falcon.Response, asked: Paged, keys: Keys | None
) -> str | None:
    """Return the cursor of the next page and set its ``Link`` header; None on the last page."""
    if keys is None:
        return None
    data = msgspec.json.encode((VERSION, _word(req, asked), keys))
    cursor = base64.urlsafe_b64encode(data).rstrip(b"=").decode()
    query = urlencode({**req.params, "cursor": cursor}, doseq=True)
    # A relative link stays correct behind a proxy with another host name.
    resp.set_header("Link", f'<{req.path}?{query}>; rel="next"')
    return cursor


def _word(req: falcon.Request, asked: Paged) -> str:
    """Return the fingerprint of a list, its filters and its order; paging does not count, nor
    does what a row includes.
    """
    what: dict[str, Any] = msgspec.structs.asdict(asked)  # type: ignore[arg-type]
    filters = {name: what[name] for name in what.keys() - {"cursor", "limit", "include"}}
    described = msgspec.json.encode([req.path, filters], order="deterministic")
    return base64.b64encode(hashlib.blake2b(described, digest_size=9).digest()).decode()


def _refused(detail: str) -> InvalidParameter:
    return InvalidParameter.of([FieldError(field="cursor", detail=detail)])
