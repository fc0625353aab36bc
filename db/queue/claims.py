"""Claims: who holds which row, for how long, and who may write to it.

Each function takes a session and never commits. Which row is next is told by
:mod:`db.queue.fair_order`.
"""

from __future__ import annotations

import uuid
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, Protocol, TypeVar

from sqlalchemy import CursorResult, and_, exists, func, or_, select, tuple_, update
from sqlalchemy.orm import Session
from sqlalchemy.sql.elements import ColumnElement

from db.tables.base import Claimable, Traced
from db.tables.sessions import AudioSession, SessionSpan


class Unit(ABC):
    """The address of a claimable row: a unit of work."""

    #: The state in which the row waits to be worked on.
    state: str

    @property
    @abstractmethod
    def table(self) -> type[Claimable]:
        """Where the row stands."""

    @property
    @abstractmethod
    def names(self) -> dict[str, Any]:
        """What the log and the metrics call the row."""

    @property
    @abstractmethod
    def origin(self) -> tuple[type[Traced], uuid.UUID]:
        """The row that a request made, of which this is the work or a part: table and id."""

    @abstractmethod
    def waits(self) -> ColumnElement[bool]:
        """True of the row while the work still waits to be finished."""


@dataclass(frozen=True, kw_only=True)
class Work(Unit):
    """A session in one of its stages, or one of its spans."""

    session_id: uuid.UUID
    state: str
    #: The span, or None where the session itself is the row.
    span_index: int | None = None
    #: The session's `resplits` at the claim: part of the fence, since attempts start again with it.
    resplits: int = 0

    @property
    def table(self) -> type[AudioSession] | type[SessionSpan]:
        return AudioSession if self.span_index is None else SessionSpan

    @property
    def names(self) -> dict[str, Any]:
        return {"session_id": self.session_id, "span_index": self.span_index}

    @property
    def origin(self) -> tuple[type[AudioSession], uuid.UUID]:
        return AudioSession, self.session_id

    def waits(self) -> ColumnElement[bool]:
        of_session = and_(
            AudioSession.id == self.session_id, AudioSession.resplits == self.resplits
        )
        if self.span_index is None:
            return and_(of_session, AudioSession.state == self.state)
        return and_(
            SessionSpan.session_id == self.session_id,
            SessionSpan.span_index == self.span_index,
            SessionSpan.state == self.state,
            # A span is work only while its session is: a cancelled one has none left.
            exists().where(of_session, AudioSession.state == "detecting"),
        )


#: What a row has before its first claim, and again in each new state.
UNTRIED: Mapping[str, Any] = {
    "attempt": 0,
    "uncounted": 0,
    "waits_for_storage": False,
    "last_error": None,
}
#: A row that waits for storage is claimed again and again. At this many claims, weeks after the
#: first, the count starts again, since the column is a small integer.
MOST_CLAIMS = 32_000

SomeUnit = TypeVar("SomeUnit", bound=Unit)
Taken = TypeVar("Taken", bound=Unit, covariant=True)


@dataclass(frozen=True)
class Claim(Generic[Taken]):
    """A row that is held, and the number of the attempt, which is the fence."""

    work: Taken
    attempt: int
    #: How many claims of the row, of which this is the latest, do not count as attempts.
    uncounted: int = 0


class Take(Protocol[Taken]):
    """Claims a row for ``lease_s`` seconds; None if there is none to be had."""

    def __call__(self, db: Session, *, lease_s: float) -> Claim[Taken] | None: ...


def seconds_from_now(seconds: float) -> ColumnElement[datetime]:
    """A point in time on the database's clock."""
    return func.clock_timestamp() + func.make_interval(0, 0, 0, 0, 0, 0, seconds)


def seconds_ago(seconds: float) -> ColumnElement[datetime]:
    """A point in time before the transaction began, for what is old.

    Unlike that of :func:`seconds_from_now` it stands still: an index is read up to it and no
    further, and the planner knows how many rows lie before it.
    """
    return func.now() - func.make_interval(0, 0, 0, 0, 0, 0, seconds)


# --- claims ------------------------------------------------------------------------------------


def this(work: SomeUnit, db: Session, *, lease_s: float) -> Claim[SomeUnit] | None:
    """Take this row and no other, if it is there to be had.

    Of any number of workers that ask at once exactly one is given the row: the others wait for
    the row's lock, look again, and find it no longer due.
    """
    table = work.table
    row = db.execute(
        update(table)
        .where(work.waits(), due(table))
        .values(**at_claim(table, lease_s=lease_s))
        .returning(table.attempt, table.uncounted),
        execution_options={"synchronize_session": False},
    ).one_or_none()
    return None if row is None else Claim(work, row.attempt, row.uncounted)


def due(table: type[Claimable]) -> ColumnElement[bool]:
    """True of a row that nobody holds and that need not wait for its next try."""
    return table.due_at <= func.clock_timestamp()


def at_claim(table: type[Claimable], *, lease_s: float) -> dict[str, Any]:
    """What a claim writes into a row."""
    values = {
        "attempt": table.attempt + 1,
        "due_at": seconds_from_now(lease_s),
        "waits_for_storage": False,
    }
    for name in ("started_at", "stage_since"):
        began_at = getattr(table, name, None)
        if began_at is not None:
            # When work on the row, or on its stage, began: a later claim changes nothing.
            values[name] = func.coalesce(began_at, func.clock_timestamp())
    return values


def at_move(table: type[Claimable]) -> dict[str, Any]:
    """What a move to its next state writes into a row, beside the state: nobody has begun it."""
    values = {
        **UNTRIED,
        # One and the same time: the caller nudges right after the commit.
        "due_at": func.now(),
        "nudged_at": func.now(),
    }
    if table is AudioSession:
        values |= {"attempt": AudioSession.first_claim, "uncounted": AudioSession.first_claim}
        values |= {"stage_share": 0, "stage_since": None, "stage_told_at": None}
        values |= {"backbone_missed_at": None}
    return values


def extend_lease(db: Session, work: Unit, *, attempt: int, lease_s: float) -> bool:
    """Hold on to a claim; False if it was lost."""
    return update_held(db, work, attempt, {"due_at": seconds_from_now(lease_s)})


def retry_later(db: Session, work: Unit, *, attempt: int, delay_s: float, error: str) -> bool:
    """Give a claim back, with the reason, to be tried again after ``delay_s`` seconds."""
    return update_held(
        db, work, attempt, {"due_at": seconds_from_now(delay_s), "last_error": error}
    )


def wait_for_storage(db: Session, work: Unit, *, attempt: int, delay_s: float, error: str) -> bool:
    """Give a claim back because the blob store failed. It does not count as an attempt."""
    values = {"waits_for_storage": True}
    held = _give_back_uncounted(
        db, work, attempt=attempt, delay_s=delay_s, error=error, values=values
    )
    if held and isinstance(work, Work) and work.span_index is not None:
        # A session shows that its spans wait, until the next of them is finished.
        db.execute(
            update(AudioSession)
            .where(AudioSession.id == work.session_id, AudioSession.state == "detecting")
            .values(waits_for_storage=True),
            execution_options={"synchronize_session": False},
        )
    return held


def wait_for_backbone(db: Session, work: Unit, *, attempt: int, delay_s: float, error: str) -> bool:
    """Give the claim of a session back to workers that have its backbone. It does not count as an
    attempt.
    """
    since = func.coalesce(AudioSession.backbone_missed_at, func.clock_timestamp())
    values = {"backbone_missed_at": since}
    return _give_back_uncounted(
        db, work, attempt=attempt, delay_s=delay_s, error=error, values=values
    )


def _give_back_uncounted(
    db: Session,
    work: Unit,
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
    return update_held(db, work, attempt, given_back | dict(values))


def advance(
    db: Session, work: Unit, *, attempt: int, to: str, values: Mapping[str, Any] | None = None
) -> bool:
    """Move a session or a job to its next state, if this claim still holds it.

    The row arrives there unclaimed and due at once.
    """
    fresh = {"state": to, **at_move(work.table)}
    if to not in work.table.unfinished:
        fresh["finished_at"] = func.clock_timestamp()
    return update_held(db, work, attempt, fresh | dict(values or {}))


def update_held(db: Session, work: Unit, attempt: int, values: Mapping[str, Any]) -> bool:
    """Write to a row behind the fence: only the claim that bears its number may."""
    table = work.table
    return changed(
        db.execute(
            update(table).where(work.waits(), table.attempt == attempt).values(**values),
            execution_options={"synchronize_session": False},
        )
    )


def changed(result: Any) -> bool:
    """Whether a statement changed one row."""
    assert isinstance(result, CursorResult)
    return bool(result.rowcount == 1)


def is_held(db: Session, work: Unit, *, attempt: int) -> bool:
    """Whether a claim still holds its row."""
    row = select(work.table.attempt).where(work.waits(), work.table.attempt == attempt)
    return db.execute(row).scalar_one_or_none() is not None


def is_cancelled(db: Session, work: Unit) -> bool:
    """Whether a row is no longer work because its session was cancelled."""
    cancelled = exists().where(
        AudioSession.id == work.names.get("session_id"), AudioSession.state == "cancelled"
    )
    return bool(db.execute(select(cancelled)).scalar_one())


def traceparent(db: Session, work: Unit) -> str | None:
    """The trace that the work goes on with."""
    table, row_id = work.origin
    return db.execute(
        select(table.traceparent).where(table.id == row_id)  # type: ignore[attr-defined]
    ).scalar_one_or_none()


def last_error(db: Session, work: Unit) -> str | None:
    """Why the work failed the last time that anybody could tell."""
    return db.execute(select(work.table.last_error).where(work.waits())).scalar_one_or_none()


# --- what is quiet -----------------------------------------------------------------------------


def take_stalled_sessions(db: Session, state: str, *, quiet_s: float, limit: int) -> list[Work]:
    """Sessions whose stage is due and that nobody was told of lately; now somebody is.

    One stage at a time: a nudge stands for whatever is next in its stage, so it does not matter
    which of the rows of a stage are taken, but it would if a long backlog of one stage stood
    before the last row of another.
    """
    waiting = (
        select(AudioSession.id)
        .where(AudioSession.state == state, *quiet(AudioSession, quiet_s))
        .order_by(AudioSession.due_at)
        .limit(limit)
    )
    rows = db.scalars(
        update(AudioSession)
        .where(AudioSession.id.in_(waiting))
        .values(nudged_at=func.clock_timestamp())
        .returning(AudioSession.id),
        execution_options={"synchronize_session": False},
    )
    return [Work(session_id=session_id, state=state) for session_id in rows]


def take_stalled_spans(db: Session, *, quiet_s: float, limit: int) -> list[Work]:
    """Spans that are due and that nobody was told of lately; now somebody is."""
    waiting = (
        select(SessionSpan.session_id, SessionSpan.span_index)
        .join(AudioSession, AudioSession.id == SessionSpan.session_id)
        .where(AudioSession.state == "detecting", SessionSpan.state == "pending")
        .where(*quiet(SessionSpan, quiet_s))
        .order_by(SessionSpan.due_at)
        .limit(limit)
    )
    rows = db.execute(
        update(SessionSpan)
        .where(tuple_(SessionSpan.session_id, SessionSpan.span_index).in_(waiting))
        .values(nudged_at=func.clock_timestamp())
        .returning(SessionSpan.session_id, SessionSpan.span_index),
        execution_options={"synchronize_session": False},
    )
    return [
        Work(session_id=session_id, span_index=index, state="pending") for session_id, index in rows
    ]


def quiet(table: type[Claimable], quiet_s: float) -> tuple[ColumnElement[bool], ...]:
    """Due, and either not nudged since it became so, or so long ago that the nudge is lost."""
    return (
        due(table),
        or_(
            table.nudged_at < table.due_at,
            table.nudged_at <= seconds_from_now(-quiet_s),
        ),
    )
