"""Every question that is put to the store, by name.

Each function takes a session and never commits: the caller decides what belongs together. Times
are always the database's own, so that the clocks of the pods need not agree.
"""

from __future__ import annotations

import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import CursorResult, and_, case, exists, func, insert, or_, select, tuple_, update
from sqlalchemy.orm import InstrumentedAttribute, Session
from sqlalchemy.sql.elements import ColumnElement

from db.models import (
    UNFINISHED_STATES,
    AudioSession,
    Claimable,
    NoiseDetection,
    ProcessingMetric,
    SessionSpan,
)


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

    @abstractmethod
    def waits(self) -> ColumnElement[bool]:
        """True of the row while the work still waits to be finished."""

    @property
    def at_claim(self) -> dict[str, Any]:
        """What else a claim writes into the row."""
        return {}


@dataclass(frozen=True, kw_only=True)
class Work(Unit):
    """A session in one of its stages, or one of its spans."""

    session_id: uuid.UUID
    state: str
    #: The span, or None where the session itself is the row.
    span_index: int | None = None

    @property
    def table(self) -> type[AudioSession] | type[SessionSpan]:
        return AudioSession if self.span_index is None else SessionSpan

    @property
    def names(self) -> dict[str, Any]:
        return {"session_id": self.session_id, "span_index": self.span_index}

    @property
    def at_claim(self) -> dict[str, Any]:
        return started(AudioSession.started_at) if self.span_index is None else {}

    def waits(self) -> ColumnElement[bool]:
        if self.span_index is None:
            return and_(AudioSession.id == self.session_id, AudioSession.state == self.state)
        return and_(
            SessionSpan.session_id == self.session_id,
            SessionSpan.span_index == self.span_index,
            SessionSpan.state == self.state,
            # A span is work only while its session is: a cancelled one has none left.
            exists().where(AudioSession.id == self.session_id, AudioSession.state == "detecting"),
        )


def started(column: InstrumentedAttribute[datetime | None]) -> dict[str, Any]:
    """Notes when work on a row began; a later claim changes nothing."""
    return {"started_at": func.coalesce(column, func.clock_timestamp())}


def seconds_from_now(seconds: float) -> ColumnElement[datetime]:
    """A point in time on the database's clock."""
    return func.clock_timestamp() + func.make_interval(0, 0, 0, 0, 0, 0, seconds)


# --- claims ------------------------------------------------------------------------------------


def claim(db: Session, work: Unit, *, lease_s: float) -> int | None:
    """Take a row for ``lease_s`` seconds; the number of the attempt, or None.

    Of any number of workers that ask at once exactly one is given the row: the others wait for
    the row's lock, look again, and find it no longer due.
    """
    table = work.table
    return db.execute(
        update(table)
        .where(work.waits(), table.due_at <= func.clock_timestamp())
        .values(attempt=table.attempt + 1, due_at=seconds_from_now(lease_s), **work.at_claim)
        .returning(table.attempt),
        execution_options={"synchronize_session": False},
    ).scalar_one_or_none()


def extend_lease(db: Session, work: Unit, *, attempt: int, lease_s: float) -> bool:
    """Hold on to a claim; False if it was lost."""
    return update_held(db, work, attempt, {"due_at": seconds_from_now(lease_s)})


def retry_later(db: Session, work: Unit, *, attempt: int, delay_s: float, error: str) -> bool:
    """Give a claim back, with the reason, to be tried again after ``delay_s`` seconds."""
    return update_held(
        db, work, attempt, {"due_at": seconds_from_now(delay_s), "last_error": error}
    )


def advance(
    db: Session, work: Unit, *, attempt: int, to: str, values: Mapping[str, Any] | None = None
) -> bool:
    """Move a session or a job to its next state, if this claim still holds it.

    The row arrives there unclaimed and due at once.
    """
    fresh = {
        "state": to,
        "attempt": 0,
        # One and the same time: the caller nudges right after the commit.
        "due_at": func.now(),
        "nudged_at": func.now(),
        "last_error": None,
    }
    if to not in UNFINISHED_STATES:
        fresh["finished_at"] = func.clock_timestamp()
    return update_held(db, work, attempt, fresh | dict(values or {}))


def update_held(db: Session, work: Unit, attempt: int, values: Mapping[str, Any]) -> bool:
    """Write to a row behind the fence: only the claim that bears its number may."""
    table = work.table
    return _changed(
        db.execute(
            update(table).where(work.waits(), table.attempt == attempt).values(**values),
            execution_options={"synchronize_session": False},
        )
    )


def _changed(result: Any) -> bool:
    assert isinstance(result, CursorResult)
    return bool(result.rowcount == 1)


# --- sessions ----------------------------------------------------------------------------------


def add_session(db: Session, **values: Any) -> AudioSession:
    """Write down a recording that has arrived; it is queued."""
    return db.execute(
        insert(AudioSession).values(state="queued", **values).returning(AudioSession)
    ).scalar_one()


def get_session(db: Session, session_id: uuid.UUID) -> AudioSession | None:
    """One session, as it stands."""
    return db.get(AudioSession, session_id)


def cancel_session(db: Session, session_id: uuid.UUID) -> bool:
    """End a session that is not yet at its end; False if there was nothing to cancel."""
    return _changed(
        db.execute(
            update(AudioSession)
            .where(AudioSession.id == session_id, AudioSession.state.in_(UNFINISHED_STATES))
            .values(state="cancelled", finished_at=func.clock_timestamp()),
            execution_options={"synchronize_session": False},
        )
    )


# --- spans -------------------------------------------------------------------------------------


def add_spans(db: Session, session_id: uuid.UUID, spans: Iterable[tuple[int, int, int]]) -> None:
    """Write down the spans of a session, as ``(index, start_sample, stop_sample)``."""
    rows = [
        {
            "session_id": session_id,
            "span_index": index,
            "start_sample": start,
            "stop_sample": stop,
            "state": "pending",
        }
        for index, start, stop in spans
    ]
    db.execute(insert(SessionSpan), rows)


def get_span(db: Session, session_id: uuid.UUID, span_index: int) -> SessionSpan | None:
    """One span, as it stands."""
    return db.get(SessionSpan, (session_id, span_index))


def finish_span(db: Session, work: Work, *, attempt: int, values: Mapping[str, Any]) -> bool | None:
    """Finish a span and count it; True if it was the session's last, None if the claim was lost.

    The barrier: the count stands on the session's row and is raised under its lock, in the
    transaction that finishes the span, behind the span's fence. Exactly one caller can see it
    reach the total, and that one moves the session on.
    """
    if not update_held(db, work, attempt, values):
        return None
    is_last = AudioSession.spans_finished + 1 >= AudioSession.spans_total
    now = func.now()
    state_after = db.execute(
        update(AudioSession)
        .where(AudioSession.id == work.session_id, AudioSession.state == "detecting")
        .values(
            spans_finished=AudioSession.spans_finished + 1,
            state=case((is_last, "aggregating"), else_=AudioSession.state),
            attempt=case((is_last, 0), else_=AudioSession.attempt),
            due_at=case((is_last, now), else_=AudioSession.due_at),
            nudged_at=case((is_last, now), else_=AudioSession.nudged_at),
        )
        .returning(AudioSession.state),
        execution_options={"synchronize_session": False},
    ).scalar_one_or_none()
    # The session may have been cancelled in between: then there is nothing to move on.
    return state_after == "aggregating"


def spans_of(db: Session, session_id: uuid.UUID) -> Sequence[SessionSpan]:
    """The spans of a session, in the order of time."""
    return db.scalars(
        select(SessionSpan)
        .where(SessionSpan.session_id == session_id)
        .order_by(SessionSpan.span_index)
    ).all()


def count_spans(db: Session, session_id: uuid.UUID) -> dict[str, int]:
    """How many spans of a session are in each state."""
    rows = db.execute(
        select(SessionSpan.state, func.count())
        .where(SessionSpan.session_id == session_id)
        .group_by(SessionSpan.state)
    )
    return dict(rows.all())


# --- detections --------------------------------------------------------------------------------


def add_detections(db: Session, session_id: uuid.UUID, events: Sequence[Mapping[str, Any]]) -> None:
    """Write the events of a session, all of them at once."""
    rows = [
        {"session_id": session_id, "event_index": index, **event}
        for index, event in enumerate(events)
    ]
    if rows:
        db.execute(insert(NoiseDetection), rows)


def detections_of(
    db: Session, session_id: uuid.UUID, *, from_index: int, limit: int
) -> Sequence[NoiseDetection]:
    """A page of a session's events, in the order of their onsets."""
    return db.scalars(
        select(NoiseDetection)
        .where(NoiseDetection.session_id == session_id, NoiseDetection.event_index >= from_index)
        .order_by(NoiseDetection.event_index)
        .limit(limit)
    ).all()


# --- metrics -----------------------------------------------------------------------------------


def add_metric(db: Session, work: Unit, *, step: str, **values: Any) -> None:
    """Write down one run of a step."""
    db.execute(insert(ProcessingMetric).values(**work.names, step=step, **values))


# --- the steward's questions -------------------------------------------------------------------

#: Any number, the same in every process: whoever holds it is the steward.
STEWARD_LOCK = 0x636C616D6F72


def try_steward_lock(db: Session) -> bool:
    """Become the steward until the end of the transaction, unless somebody is already."""
    return bool(db.execute(select(func.pg_try_advisory_xact_lock(STEWARD_LOCK))).scalar_one())


def take_quiet_sessions(db: Session, *, quiet_s: float, limit: int) -> list[Work]:
    """Sessions whose current stage is due and that nobody was told of lately; now somebody is.

    A session that is detecting is not work itself: its spans are.
    """
    due = (
        select(AudioSession.id)
        .where(AudioSession.state.in_(("queued", "splitting", "aggregating")))
        .where(*quiet(AudioSession, quiet_s))
        .order_by(AudioSession.due_at)
        .limit(limit)
    )
    rows = db.execute(
        update(AudioSession)
        .where(AudioSession.id.in_(due))
        .values(nudged_at=func.clock_timestamp())
        .returning(AudioSession.id, AudioSession.state),
        execution_options={"synchronize_session": False},
    )
    return [Work(session_id=session_id, state=state) for session_id, state in rows]


def take_quiet_spans(db: Session, *, quiet_s: float, limit: int) -> list[Work]:
    """Spans that are due and that nobody was told of lately; now somebody is."""
    due = (
        select(SessionSpan.session_id, SessionSpan.span_index)
        .join(AudioSession, AudioSession.id == SessionSpan.session_id)
        .where(AudioSession.state == "detecting", SessionSpan.state == "pending")
        .where(*quiet(SessionSpan, quiet_s))
        .order_by(SessionSpan.due_at)
        .limit(limit)
    )
    rows = db.execute(
        update(SessionSpan)
        .where(tuple_(SessionSpan.session_id, SessionSpan.span_index).in_(due))
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
        table.due_at <= func.clock_timestamp(),
        or_(
            table.nudged_at < table.due_at,
            table.nudged_at <= seconds_from_now(-quiet_s),
        ),
    )


# --- what is left over -------------------------------------------------------------------------


def sessions_to_tidy(db: Session, *, limit: int) -> Sequence[tuple[uuid.UUID, set[str | None]]]:
    """Sessions at their end that still keep decoded audio, with the keys that they go on to need
    beside their recording's.
    """
    rows = db.execute(
        select(AudioSession.id, AudioSession.levels_key, AudioSession.levels_answer_key)
        .where(AudioSession.state.not_in(UNFINISHED_STATES), AudioSession.pcm_key.is_not(None))
        .limit(limit)
    )
    return [(session_id, {*keys}) for session_id, *keys in rows]


def forget_pcm(db: Session, session_id: uuid.UUID) -> None:
    """Note that a session's decoded audio is gone."""
    db.execute(update(AudioSession).where(AudioSession.id == session_id).values(pcm_key=None))


def oldest_unfinished_s(db: Session) -> float | None:
    """How long the oldest unfinished session has been waiting, in seconds."""
    age = db.execute(
        select(
            func.extract("epoch", func.clock_timestamp() - func.min(AudioSession.created_at))
        ).where(AudioSession.state.in_(UNFINISHED_STATES))
    ).scalar_one()
    return None if age is None else float(age)
