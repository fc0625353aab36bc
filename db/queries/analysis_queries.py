"""Queries for analyses and their input."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, TypedDict

from sqlalchemy import and_, bindparam, func, literal, null, select
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import Session
from sqlalchemy.sql.elements import ColumnElement

from db.queries.model_queries import JobDone, JobWork
from db.queries.session_queries import is_of
from db.queue import claims
from db.queue.claims import Claim
from db.statements import CompiledStatement, changed_one
from db.tables.analyses import AnalysisJob
from db.tables.base import JobRow, JsonObject, untried_now
from db.tables.detections import NoiseDetection
from db.tables.metrics import ProcessingMetric
from db.tables.sessions import AudioSession
from db.tables.spans import SessionSpan

#: The name of the step in the metrics.
STEP = "analyze"


@dataclass(frozen=True, kw_only=True)
class AnalysisWork(JobWork):
    """A session's analysis, as last requested."""

    job: type[JobRow] = AnalysisJob
    asking_id: uuid.UUID

    @property
    def names(self) -> dict[str, uuid.UUID]:
        return {"session_id": self.id}

    def waits(self) -> ColumnElement[bool]:
        return and_(super().waits(), AnalysisJob.asking_id == self.asking_id)


class AnalysisDone(JobDone):
    """What an analysis writes at its end."""

    #: An `AnalysisResult`.
    result: JsonObject


def ask_analysis(
    tx: Session,
    session_id: uuid.UUID,
    *,
    asking_id: uuid.UUID,
    limits_db: Mapping[str, Sequence[float]] | None = None,
    traceparent: str | None,
    done: AnalysisDone | None = None,
) -> bool:
    """Request an analysis, new or again. Work on an earlier request becomes outdated.

    ``done`` is the analysis itself, if it has been made already. Return False if the session was
    removed meanwhile.
    """
    given = {"limits_db": dict(limits_db or {}), "traceparent": traceparent, **(done or {})}
    asking = _asking(tuple(given), is_done=done is not None)
    return changed_one(tx, asking.run(tx, session_id=session_id, asking_id=asking_id, **given))


@lru_cache
def _asking(given: tuple[str, ...], *, is_done: bool) -> CompiledStatement:
    columns = AnalysisJob.__table__.columns
    fresh: dict[str, object] = {
        **untried_now(),
        "state": "completed" if is_done else "pending",
        "percent": 0,
        "stage": "waiting",
        "result": null(),
        "problem": null(),
        "created_at": func.now(),
        "started_at": func.now() if is_done else null(),
        "finished_at": func.clock_timestamp() if is_done else null(),
        **{name: bindparam(name, type_=columns[name].type) for name in ("asking_id", *given)},
    }
    values = [
        value if isinstance(value, ColumnElement) else literal(value, columns[name].type)
        for name, value in fresh.items()
    ]
    # The same lock that the foreign key would take a moment later.
    lasting = (
        select(AudioSession.id, *values)
        .where(AudioSession.id == bindparam("session_id"))
        .with_for_update(read=True, key_share=True)
    )
    adding = postgresql.insert(AnalysisJob).from_select(["session_id", *fresh], lasting)
    renewed = {name: adding.excluded[name] for name in fresh}
    return CompiledStatement(
        adding.on_conflict_do_update(index_elements=["session_id"], set_=renewed)
    )


def take_analysis(
    session_id: uuid.UUID, tx: Session, *, lease_s: float
) -> Claim[AnalysisWork] | None:
    """Claim a session's analysis, if it is pending."""
    asking_id = tx.execute(
        select(AnalysisJob.asking_id).where(
            AnalysisJob.id == session_id, AnalysisJob.state == "pending"
        )
    ).scalar_one_or_none()
    if asking_id is None:
        return None
    work = AnalysisWork(id=session_id, asking_id=asking_id)
    return claims.this(work, tx, lease_s=lease_s)


def asked_analysis(
    tx: Session, asking_id: uuid.UUID, *, owner: uuid.UUID | None = None
) -> AnalysisJob | None:
    """Return the analysis whose latest request has an ID; with an owner only if it is theirs."""
    return tx.scalars(
        select(AnalysisJob)
        .join(AudioSession, AudioSession.id == AnalysisJob.id)
        .where(AnalysisJob.asking_id == asking_id, is_of(AudioSession, owner))
    ).one_or_none()


def get_analysis(
    tx: Session, session_id: uuid.UUID, *, owner: uuid.UUID | None = None
) -> AnalysisJob | None:
    """Return the analysis of a session; with an owner only if the session is theirs."""
    return tx.scalars(
        select(AnalysisJob)
        .join(AudioSession, AudioSession.id == AnalysisJob.id)
        .where(AnalysisJob.id == session_id, is_of(AudioSession, owner))
    ).one_or_none()


# --- the input of an analysis ------------------------------------------------------------------


class EventColumns(TypedDict):
    """The detections of a session by column, all of one length."""

    start_s: Sequence[float]
    end_s: Sequence[float]
    noise_type: Sequence[str]
    confidence: Sequence[float]
    laeq_db: Sequence[float | None]
    lafmax_db: Sequence[float | None]


def event_columns(tx: Session, session_id: uuid.UUID) -> EventColumns:
    """Return the detections of a session by column, unordered, in a seventh of the time of rows."""
    event = NoiseDetection
    columns = (
        event.start_s,
        event.end_s,
        event.noise_type,
        event.confidence,
        event.laeq_db,
        event.lafmax_db,
    )
    row = tx.execute(
        select(*(func.array_agg(column).label(column.key) for column in columns)).where(
            event.session_id == session_id
        )
    ).one()
    return EventColumns(
        start_s=row.start_s or [],
        end_s=row.end_s or [],
        noise_type=row.noise_type or [],
        confidence=row.confidence or [],
        laeq_db=row.laeq_db or [],
        lafmax_db=row.lafmax_db or [],
    )


class StepRuns(NamedTuple):
    """The runs of a step with one result: their number, and their seconds."""

    step: str
    result: str
    runs: int
    total_s: float
    longest_s: float


def runs_of(tx: Session, session_id: uuid.UUID) -> list[StepRuns]:
    """Return the runs of a session's steps by result, in the order of the first ones."""
    metric = ProcessingMetric
    rows = tx.execute(
        select(
            metric.step,
            metric.result,
            func.count().label("runs"),
            func.sum(metric.duration_s).label("total_s"),
            func.max(metric.duration_s).label("longest_s"),
        )
        .where(metric.session_id == session_id, metric.step != STEP)
        .group_by(metric.step, metric.result)
        .order_by(func.min(metric.id))
    )
    return [StepRuns(*row) for row in rows]


def count_failed_spans(tx: Session, session_id: uuid.UUID) -> int:
    """Count the spans of a session that were given up."""
    return tx.execute(
        select(func.count()).where(
            SessionSpan.session_id == session_id, SessionSpan.state == "failed"
        )
    ).scalar_one()
