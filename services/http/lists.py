"""Lists in pages. A list states its parameters, its query and the view of a row; this module does
the rest: cursor, owner, page and answer.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from typing import Any, Concatenate, ParamSpec, TypedDict, TypeVar

import falcon
import msgspec
from sqlalchemy.orm import Session

from db.queries import paging
from db.queries.paging import Keys, Order
from services.http import cursors
from services.http.access import owner
from services.http.cursors import Paged
from services.http.operations import operation, query_of
from services.http.resource import Resource
from services.http.responses import answer

Asked = TypeVar("Asked", bound=Paged)
SomeResource = TypeVar("SomeResource", bound=Resource)
SomeRow = TypeVar("SomeRow")
Path = ParamSpec("Path")


class Part(TypedDict):
    """The part of a list that a request asks for, as the arguments of a query."""

    order: Order
    #: The keys of the row after which the part begins; None for the first page.
    after: Keys | None
    limit: int


class Listed:
    """A page of rows, the view of each row, and the other members of the answer."""

    def __init__(
        self,
        page: paging.Page[SomeRow],
        view: Callable[[SomeRow], msgspec.Struct],
        **members: object,
    ) -> None:
        self.page: paging.Page[Any] = page
        self.view: Callable[[Any], msgspec.Struct] = view
        self.members = members


def listing(
    *,
    query: type[Asked],
    answer_type: type[msgspec.Struct],
    orders: Order | Mapping[str, Order],
    scope: str,
    **promise: Any,
) -> Callable[
    [Callable[Concatenate[SomeResource, Session, Asked, Part, uuid.UUID | None, Path], Listed]],
    Callable[Concatenate[SomeResource, falcon.Request, falcon.Response, Path], None],
]:
    """Make the responder of a list from the method that reads a part of it.

    The method gets a database session, the parsed query, the part, and the owner whose rows the
    caller may see (None for all users), and returns a :class:`Listed`. ``orders`` are the orders by
    the values of ``sort``, or the only one; ``answer_type`` has ``items`` and ``next_cursor``.
    """

    def make(
        rows: Callable[
            Concatenate[SomeResource, Session, Asked, Part, uuid.UUID | None, Path], Listed
        ],
    ) -> Callable[Concatenate[SomeResource, falcon.Request, falcon.Response, Path], None]:
        @operation(scope=scope, query=query, answer=answer_type, **promise)
        def on_get(
            self: SomeResource,
            req: falcon.Request,
            resp: falcon.Response,
            /,
            *args: Path.args,
            **path: Path.kwargs,
        ) -> None:
            asked = query_of(req, query)  # type: ignore[type-var]
            order = orders if isinstance(orders, Order) else orders[asked.sort]  # type: ignore[attr-defined]
            part = Part(order=order, after=cursors.after(req, asked, order), limit=asked.limit)
            with self.deps.store.reading() as tx:
                listed = rows(self, tx, asked, part, owner(req), *args, **path)
            items = [listed.view(row) for row in listed.page.rows]
            cursor = cursors.following(req, resp, asked, listed.page.next)
            answer(resp, answer_type(items=items, next_cursor=cursor, **listed.members))

        on_get.__doc__ = rows.__doc__
        return on_get

    return make
