"""Keyset pagination: pages start after the keys of the last row seen, without counting rows.

A page begins *after* a row, regardless of rows added or removed meanwhile, and an index finds the
position: the last page of a long list costs as much as the first.
"""

from __future__ import annotations

import functools
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Generic, TypeVar

import msgspec
from sqlalchemy import Row, Select, literal, null, tuple_
from sqlalchemy.orm import InstrumentedAttribute, Session
from sqlalchemy.sql.elements import ColumnElement

#: The valid keys by type, so that a forged key cannot exceed the range of its column.
_KINDS: dict[type, Any] = {
    datetime: Annotated[datetime, msgspec.Meta(tz=True)],
    float: float,
    int: Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)],
    uuid.UUID: uuid.UUID,
}

#: The keys of a row in an order.
Keys = tuple[datetime | float | int | uuid.UUID | None, ...]
#: A column by which a list is ordered.
Column = InstrumentedAttribute[Any]


@dataclass(frozen=True)
class Blank:
    """The rows of a list that lack the first column of its order, if they are found in another way:
    the statement, and the column of the only other key.
    """

    statement: Select[*tuple[Any, ...]]
    key: Column


@dataclass(frozen=True)
class _Part:
    """A part of a list: its rows after some keys, the columns of its keys, and its order."""

    statement: Select[*tuple[Any, ...]]
    keys: Sequence[ColumnElement[Any] | Column]
    order: Sequence[ColumnElement[Any]]


@dataclass(frozen=True)
class Order:
    """The order of a list: by some columns, all in one direction.

    Together the columns are unique. Only the first may be null: rows with nulls come last in both
    directions, and are paged as a separate list after the others. So one index, with nulls at
    either end, serves both directions.
    """

    columns: tuple[Column, ...]
    descending: bool = False
    nullable: bool = False

    @functools.cached_property
    def keys(self) -> Any:
        """The type of a row's keys."""
        kinds = [_KINDS[column.type.python_type] for column in self.columns]
        if self.nullable:
            kinds[0] = kinds[0] | None
        return tuple[tuple(kinds)]  # type: ignore[misc]

    def page(
        self,
        tx: Session,
        statement: Select[*tuple[Any, ...]],
        *,
        after: Keys | None,
        limit: int,
        shown: Select[*tuple[Any, ...]] | None = None,
        blank: Blank | None = None,
    ) -> Page[Row[Any]]:
        """Return the rows of a statement after the one with some keys, followed by their keys.

        If the first column may be null, the rows without it are those of ``blank``, if given.

        Postgres reads all selected columns of every row that it sorts, not only of one page. If
        these are large, the statement selects only the last column, which must then be the whole
        key, and ``shown`` is read for the rows of the page.
        """
        n_keys = len(self.columns)
        rows: list[Row[Any]] = []
        for part in self._parts(statement, after, blank):
            n_wanted = limit + 1 - len(rows)
            if shown is None:
                page = part.statement.add_columns(*part.keys).limit(n_wanted)
            else:
                chosen = part.statement.order_by(*part.order).limit(n_wanted)
                page = shown.add_columns(*part.keys).where(part.keys[-1].in_(chosen))
            rows += tx.execute(page.order_by(*part.order)).all()
            if len(rows) > limit:
                # One more row than the limit, so there is a next page.
                return Page(rows[:limit], next=tuple(rows[limit - 1][-n_keys:]))
        return Page(rows, next=None)

    def _parts(
        self, statement: Select[*tuple[Any, ...]], after: Keys | None, blank: Blank | None
    ) -> Iterator[_Part]:
        """Yield the rows after some keys; in two parts if the first column is nullable."""
        first, *others = self.columns
        order = self._sorted(self.columns)
        if not self.nullable:
            yield _Part(statement.where(*self._behind(self.columns, after)), self.columns, order)
            return
        if after is None or after[0] is not None:
            behind = self._behind(self.columns, after)
            yield _Part(statement.where(first.is_not(None), *behind), self.columns, order)
            after = None
        keys = after and after[1:]
        if blank is not None:
            behind = self._behind([blank.key], keys)
            rest = blank.statement.where(*behind)
            yield _Part(rest, (null(), blank.key), self._sorted([blank.key]))
            return
        # Sorted by the nulls too, so that Postgres uses the index that begins with them instead of
        # one that has all rows in the order of the others.
        behind = self._behind(others, keys)
        yield _Part(statement.where(first.is_(None), *behind), self.columns, order)

    def _sorted(self, columns: Sequence[Column]) -> list[ColumnElement[Any]]:
        return [column.desc() if self.descending else column.asc() for column in columns]

    def _behind(self, columns: Sequence[Column], after: Keys | None) -> list[ColumnElement[bool]]:
        if after is None:
            return []
        # Compared as a row, where an index can start, rather than column by column.
        pairs = zip(columns, after, strict=True)
        place = tuple_(*(literal(key, column.type) for column, key in pairs))
        mine = tuple_(*columns)
        return [mine < place if self.descending else mine > place]


SomeRow = TypeVar("SomeRow", covariant=True)


@dataclass(frozen=True)
class Page(Generic[SomeRow]):
    """Some rows of a list, and the keys after which the next page begins; None at the end."""

    rows: Sequence[SomeRow]
    next: Keys | None


def orders(
    by_name: dict[str, InstrumentedAttribute[Any]],
    *unique: InstrumentedAttribute[Any],
    nullable: Sequence[str] = (),
) -> dict[str, Order]:
    """Return both orders by each of some columns, as ``name`` and ``-name``.

    The columns of ``unique`` break ties in all of them.
    """
    return {
        f"{sign}{name}": Order((column, *unique), descending=bool(sign), nullable=name in nullable)
        for name, column in by_name.items()
        for sign in ("", "-")
    }


# --- filters -----------------------------------------------------------------------------------


def within(
    column: InstrumentedAttribute[datetime] | InstrumentedAttribute[datetime | None],
    begin: datetime | None,
    end: datetime | None,
) -> list[ColumnElement[bool]]:
    """Return the conditions that a time lies in ``[begin, end)``."""
    bounds = []
    if begin is not None:
        bounds.append(column >= begin)
    if end is not None:
        bounds.append(column < end)
    return bounds


def one_of(
    column: ColumnElement[str] | InstrumentedAttribute[str] | InstrumentedAttribute[str | None],
    values: Sequence[str],
) -> list[ColumnElement[bool]]:
    """Return the condition that a column has one of some values; none without values."""
    # With = instead of IN, an index returns the rows in the list's order.
    if len(values) == 1:
        return [column == values[0]]
    return [column.in_(values)] if values else []
