"""Claims: which worker holds a row, for how long, and which writes are allowed.

Each function takes a session and never commits. :mod:`db.queue.fair_order` decides which row is
next.
"""

from __future__ import annotations

import uuid
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from sqlalchemy import (
    CursorResult,
    SmallInteger,
    Text,
    Uuid,
    and_,
    bindparam,
    case,
    exists,
    func,
    select,
    update,
)
from sqlalchemy.orm import Session
from sqlalchemy.sql.elements import ColumnElement

from db.queue import session_moves
from db.statements import CompiledStatement, changed_one
from db.tables.base import Claimable, Traced, untried_now
from db.tables.session_results import SessionResult
from db.tables.sessions import AudioSession
from db.tables.spans import SessionSpan
from db.tables.unfinished import UnfinishedSession


class WorkItem(ABC):
    """The address of a claimable row: a work item."""

    #: The state in which the row waits for a worker.
    state: str

    @property
    @abstractmethod
    def table(self) -> type[Claimable]:
        """The table of the row."""

    @property
    @abstractmethod
    def names(self) -> dict[str, Any]:
        """The identifiers of the row in the log and the metrics."""

    @property
    @abstractmethod
    def origin(self) -> tuple[type[Traced], uuid.UUID]:
        """Table and ID of the row that a request created and that this work belongs to."""

    @abstractmethod
    def waits(self) -> ColumnElement[bool]:
        """Return the condition of the row that holds while the work is unfinished."""


@dataclass(frozen=True, kw_only=True)
class SessionWork(WorkItem):
    """A session in one of its stages, or one of its spans."""

    session_id: uuid.UUID
    state: str
    #: The span, or None if the session itself is the row.
    span_index: int | None = None
    #: The session's `resplits` at the claim: part of the fence, since each resplit resets attempts.
    resplits: int = 0

    @property
    def table(self) -> type[UnfinishedSession] | type[SessionSpan]:
        return UnfinishedSession if self.span_index is None else SessionSpan

    @property
    def names(self) -> dict[str, Any]:
        return {"session_id": self.session_id, "span_index": self.span_index}

    @property
    def origin(self) -> tuple[type[AudioSession], uuid.UUID]:
        return AudioSession, self.session_id

    def waits(self) -> ColumnElement[bool]:
        of_session = and_(
            UnfinishedSession.session_id == self.session_id,
            UnfinishedSession.resplits == self.resplits,
        )
        if self.span_index is None:
            return and_(of_session, UnfinishedSession.state == self.state)
        return and_(
            SessionSpan.session_id == self.session_id,
            SessionSpan.span_index == self.span_index,
            SessionSpan.state == self.state,
            # A span is work only while its session is detecting: not if that is cancelled.
            exists().where(of_session, UnfinishedSession.state == "detecting"),
        )


#: A row that waits for storage is claimed repeatedly. At this many claims, weeks after the first,
#: the count restarts, since the column is a small integer.
MOST_CLAIMS = 32_000

SomeItem = TypeVar("SomeItem", bound=WorkItem)
Taken = TypeVar("Taken", bound=WorkItem, covariant=True)


class ClaimTimes(NamedTuple):
    """When a row was first claimed, and the time of a claim, by the database's clock."""

    first_at: datetime
    at: datetime


@dataclass(frozen=True)
class Claim(Generic[Taken]):
    """A claimed row, and the attempt number, which is the fence."""

    work: Taken
    attempt: int
    #: How many claims of the row so far do not count as attempts.
    uncounted: int = 0
    #: When the row was first claimed, and the time of this claim; None if that was not asked.
    times: ClaimTimes | None = None


class Take(Protocol[Taken]):
    """Claims a row for ``lease_s`` seconds; returns None if none is available."""

    def __call__(self, tx: Session, *, lease_s: float) -> Claim[Taken] | None: ...


def seconds_from_now(seconds: float) -> ColumnElement[datetime]:
    """Return a time in the future by the database's clock."""
    return func.clock_timestamp() + func.make_interval(0, 0, 0, 0, 0, 0, seconds)


def seconds_ago(seconds: float) -> ColumnElement[datetime]:
    """Return a time before the start of the transaction, to find old rows.

    Unlike :func:`seconds_from_now` it is constant during the statement: an index is read up to it
    and no further, and the planner can estimate the number of rows before it.
    """
    return func.now() - func.make_interval(0, 0, 0, 0, 0, 0, seconds)


# --- claims ------------------------------------------------------------------------------------


def this(work: SomeItem, tx: Session, *, lease_s: float) -> Claim[SomeItem] | None:
    """Claim this row and no other, if it is due.

    If several workers try at once, exactly one gets the row: the others wait for the row's lock,
    check again, and find it no longer due.
    """
    table = work.table
    row = tx.execute(
        update(table)
        .where(work.waits(), due(table))
        .values(**at_claim(table, lease_s=lease_s))
        .returning(table.attempt, table.uncounted),
        execution_options={"synchronize_session": False},
    ).one_or_none()
    return None if row is None else Claim(work, row.attempt, row.uncounted)


def due(table: type[Claimable]) -> ColumnElement[bool]:
    """Return the condition of rows that are not claimed and whose next try is due."""
    return table.due_at <= func.clock_timestamp()


def at_claim(table: type[Claimable], *, lease_s: float) -> dict[str, Any]:
    """Return the values that a claim writes to a row."""
    values = {
        "attempt": table.attempt + 1,
        "due_at": seconds_from_now(lease_s),
        "waits_for_storage": False,
    }
    for name in ("started_at", "stage_since"):
        began_at = getattr(table, name, None)
        if began_at is not None:
            # The start of work on the row, or on its stage: later claims do not change it.
            values[name] = func.coalesce(began_at, func.clock_timestamp())
    return values


def extend_lease(tx: Session, work: WorkItem, *, attempt: int, lease_s: float) -> bool:
    """Extend a claim; False if it was lost."""
    return update_held(tx, work, attempt, {"due_at": seconds_from_now(lease_s)})


def retry_later(tx: Session, work: WorkItem, *, attempt: int, delay_s: float, error: str) -> bool:
    """Give a claim back, with the reason, to be retried after ``delay_s`` seconds."""
    return update_held(
        tx, work, attempt, {"due_at": seconds_from_now(delay_s), "last_error": error}
    )


def wait_for_storage(
    tx: Session, work: WorkItem, *, attempt: int, delay_s: float, error: str
) -> bool:
    """Give a claim back because the blob store failed. It does not count as an attempt."""
    values = {"waits_for_storage": True}
    held = _give_back_uncounted(
        tx, work, attempt=attempt, delay_s=delay_s, error=error, values=values
    )
    if held and isinstance(work, SessionWork) and work.span_index is not None:
        # The session shows that its spans wait, until the next span is finished.
        tx.execute(
            update(UnfinishedSession)
            .where(
                UnfinishedSession.session_id == work.session_id,
                UnfinishedSession.state == "detecting",
            )
            .values(waits_for_storage=True),
            execution_options={"synchronize_session": False},
        )
    return held


def wait(tx: Session, work: WorkItem, *, attempt: int, delay_s: float, error: str) -> bool:
    """Give a claim back because the installation failed. It does not count as an attempt."""
    return _give_back_uncounted(tx, work, attempt=attempt, delay_s=delay_s, error=error, values={})


def forgive(tx: Session, work: WorkItem, *, attempt: int) -> None:
    """Let an earlier claim of unfinished work not count, and give it back if it is still held."""
    table = work.table
    is_held = table.attempt == attempt
    tx.execute(
        update(table)
        .where(work.waits(), table.attempt >= attempt)
        .values(
            uncounted=table.uncounted + 1,
            due_at=case((is_held, func.clock_timestamp()), else_=table.due_at),
        ),
        execution_options={"synchronize_session": False},
    )


def wait_for_backbone(
    tx: Session, work: WorkItem, *, attempt: int, delay_s: float, error: str
) -> bool:
    """Give the claim of a session back for workers that have its backbone.

    It does not count as an attempt.
    """
    since = func.coalesce(UnfinishedSession.backbone_missed_at, func.clock_timestamp())
    values = {"backbone_missed_at": since}
    return _give_back_uncounted(
        tx, work, attempt=attempt, delay_s=delay_s, error=error, values=values
    )


def _give_back_uncounted(
    tx: Session,
    work: WorkItem,
    *,
    attempt: int,
    delay_s: float,
    error: str,
    values: Mapping[str, Any],
) -> bool:
    given_back = {
        "due_at": seconds_from_now(delay_s),
        "last_error": error,
        "uncounted": work.table.uncounted + 1,
    }
    if attempt >= MOST_CLAIMS:
        given_back |= {"attempt": 0, "uncounted": 0}
    return update_held(tx, work, attempt, given_back | dict(values))


def advance(
    tx: Session, work: WorkItem, *, attempt: int, to: str, values: Mapping[str, Any] | None = None
) -> bool:
    """Move a session or a job to its next state, if this claim still holds it.

    The row arrives there unclaimed and due at once.
    """
    values = values or {}
    if isinstance(work, SessionWork):
        fence = {
            "held_session_id": work.session_id,
            "held_state": work.state,
            "held_resplits": work.resplits,
            "held_attempt": attempt,
        }
        written = {f"new_{name}": value for name, value in values.items()}
        return changed_one(tx, _moving(to, tuple(values)).run(tx, **fence, **written))
    fresh = {"state": to, **untried_now()}
    if to not in work.table.unfinished:
        fresh["finished_at"] = func.clock_timestamp()
    return update_held(tx, work, attempt, fresh | dict(values))


@lru_cache
def _moving(to: str, columns: tuple[str, ...]) -> CompiledStatement:
    """Return the statement by which a claim moves its session and writes some columns."""
    types = {**SessionResult.__table__.columns, **AudioSession.__table__.columns}
    # The condition of any work, with parameters in place of its values.
    of_work: Any = {
        "session_id": bindparam("held_session_id", type_=Uuid),
        "state": bindparam("held_state", type_=Text),
        "resplits": bindparam("held_resplits", type_=SmallInteger),
    }
    work, attempt = SessionWork(**of_work), bindparam("held_attempt", type_=SmallInteger)
    which = and_(work.waits(), UnfinishedSession.attempt == attempt)
    values = {name: bindparam(f"new_{name}", type_=types[name].type) for name in columns}
    return CompiledStatement(session_moves.moving(which, to=to, values=values, work={}))


def held(work: WorkItem, attempt: int) -> ColumnElement[bool]:
    """Return the condition of the row that holds while a claim holds it: the fence."""
    return and_(work.waits(), work.table.attempt == attempt)


def update_held(tx: Session, work: WorkItem, attempt: int, values: Mapping[str, Any]) -> bool:
    """Write to a row behind the fence: only if the claim has the row's attempt number."""
    return changed(
        tx.execute(
            update(work.table).where(held(work, attempt)).values(**values),
            execution_options={"synchronize_session": False},
        )
    )


def changed(result: Any) -> bool:
    """Whether a statement changed exactly one row."""
    assert isinstance(result, CursorResult)
    return bool(result.rowcount == 1)


def is_held(tx: Session, work: WorkItem, *, attempt: int) -> bool:
    """Whether a claim still holds its row."""
    row = select(work.table.attempt).where(held(work, attempt))
    return tx.execute(row).scalar_one_or_none() is not None


def is_cancelled(tx: Session, work: WorkItem) -> bool:
    """Whether the session of a work item was cancelled."""
    cancelled = exists().where(
        AudioSession.id == work.names.get("session_id"), AudioSession.state == "cancelled"
    )
    return bool(tx.execute(select(cancelled)).scalar_one())


def traceparent(tx: Session, work: WorkItem) -> str | None:
    """Return the trace that the work continues."""
    table, row_id = work.origin
    return tx.execute(
        select(table.traceparent).where(table.id == row_id)  # type: ignore[attr-defined]
    ).scalar_one_or_none()


def last_error(tx: Session, work: WorkItem) -> str | None:
    """Return the last recorded reason of a failure."""
    return tx.execute(select(work.table.last_error).where(work.waits())).scalar_one_or_none()
