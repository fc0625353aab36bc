"""Cursors: where in a list a page begins.

A cursor has the keys of the last row that was shown, and a word for the list, its filters and its
order: behind which row a page of *another* list begins, it cannot tell, and is refused there. It
says nothing about whose rows they are: that is asked of the key with every page, so that a cursor
needs no seal; one that somebody made up finds a place in their own list.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Annotated, Any, TypeVar
from urllib.parse import urlencode

import falcon
import msgspec

from db.queries.paging import Keys, Order
from services.http.errors import FieldError, InvalidParameter

#: Of the form of cursors: another one makes those of before invalid.
VERSION = 1


class Page(msgspec.Struct, kw_only=True):
    """Which page of a list is asked for: what every list's query has."""

    #: How many items it has at most.
    limit: Annotated[int, msgspec.Meta(ge=1, le=1_000)] = 100
    #: The ``next_cursor`` of the page before; the first page without.
    cursor: str | None = None


Asked = TypeVar("Asked", bound=Page)


def after(req: falcon.Request, asked: Page, order: Order) -> Keys | None:
    """Behind which row the page that is asked for begins; None for the first page.

    Raises
    ------
    InvalidParameter
        If the cursor is not of this list, with these filters and in this order.
    """
    if asked.cursor is None:
        return None
    try:
        padded = asked.cursor.encode() + b"=" * (-len(asked.cursor) % 4)
        data = base64.b64decode(padded, altchars=b"-_", validate=True)
        version, word, keys = msgspec.json.decode(data, type=tuple[int, str, msgspec.Raw])
        found: Keys = msgspec.json.decode(keys, type=order.keys)
    except (binascii.Error, msgspec.DecodeError, UnicodeError, RecursionError):
        raise _refused("it must be the 'next_cursor' of an earlier answer") from None
    if version != VERSION or word != _word(req, asked):
        raise _refused(
            "it is of another list, other filters or another order: begin again without it"
        )
    return found


def following(
    req: falcon.Request, resp: falcon.Response, asked: Page, keys: Keys | None
) -> str | None:
    """The cursor of the page behind some keys, and a link to it in the answer; None at the end."""
    if keys is None:
        return None
    data = msgspec.json.encode((VERSION, _word(req, asked), keys))
    cursor = base64.urlsafe_b64encode(data).rstrip(b"=").decode()
    query = urlencode({**req.params, "cursor": cursor}, doseq=True)
    # Relative: under which name a caller reaches this server, a proxy may know better.
    resp.set_header("Link", f'<{req.path}?{query}>; rel="next"')
    return cursor


def _word(req: falcon.Request, asked: Page) -> str:
    """A word for a list with its filters and its order, but not for a page of it."""
    what: dict[str, Any] = msgspec.structs.asdict(asked)
    del what["cursor"], what["limit"]
    described = msgspec.json.encode([req.path, what], order="deterministic")
    return base64.b64encode(hashlib.blake2b(described, digest_size=9).digest()).decode()


def _refused(detail: str) -> InvalidParameter:
    return InvalidParameter.of([FieldError(field="cursor", detail=detail)])
