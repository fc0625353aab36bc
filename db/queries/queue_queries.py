"""Queries for the backlog: claimed and waiting rows, and their age.

The rows are authoritative and messages only nudge, so these figures are correct even if the broker
has lost messages.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import ColumnElement, Select, and_, func, literal, select, union_all
from sqlalchemy.orm import Session

from db.queries.webhook_queries import is_told
from db.tables.analyses import Analysis
from db.tables.base import Claimable
from db.tables.batches import Batch
from db.tables.exports import Export
from db.tables.reports import DailyReport
from db.tables.sessions import SESSION_STATES, UNFINISHED_STATES, AudioSession, SessionSpan
from db.tables.training import TrainingJob, Validation
from db.tables.webhooks import Webhook, WebhookDelivery

#: The kinds of work. A session waits in one of three states.
KINDS = (
    "queued", "splitting", "aggregating", "span", "analysis", "batch", "webhook", "training",
    "validation", "export", "report",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Backlog:
    """The unfinished rows of one kind."""

    #: Rows that a worker has claimed, or that wait for their next try after a failure. Both have a
    #: ``due_at`` in the future and cannot be distinguished.
    held: int = 0
    #: How long the oldest row has been due and unclaimed; None if there is no such row.
    oldest_s: float | None = None


def backlogs(db: Session) -> dict[str, Backlog]:
    """Return the unfinished rows by kind, read from the partial indexes of unfinished rows."""
    stages = ("queued", "splitting", "aggregating")
    rows = db.execute(
        union_all(
            *(_backlog(stage, AudioSession, AudioSession.state == stage) for stage in stages),
            _backlog("span", SessionSpan, SessionSpan.state == "pending").join(
                AudioSession,
                and_(AudioSession.id == SessionSpan.session_id, AudioSession.state == "detecting"),
            ),
            _backlog("analysis", Analysis, Analysis.state == "pending"),
            _backlog("batch", Batch, Batch.state.in_(Batch.unfinished)),
            _webhooks(),
            _backlog("training", TrainingJob, TrainingJob.state == "pending"),
            _backlog("validation", Validation, Validation.state == "pending"),
            _backlog("export", Export, Export.state == "pending"),
            _backlog("report", DailyReport, DailyReport.state == "pending"),
        )
    )
    return {
        kind: Backlog(held=held, oldest_s=None if oldest_s is None else float(oldest_s))
        for kind, held, oldest_s in rows
    }


def _backlog(
    kind: str, table: type[Claimable], waits: ColumnElement[bool]
) -> Select[str, int, float | None]:
    now = func.now()
    oldest = func.min(table.due_at).filter(table.due_at <= now)
    return (
        select(
            literal(kind),
            func.count().filter(table.due_at > now, table.attempt > 0),
            func.extract("epoch", now - oldest),
        )
        .select_from(table)
        .where(waits)
    )


def _webhooks() -> Select[str, int, float | None]:
    """Return the backlog of webhooks: those that have a due delivery and do not rest."""
    now = func.now()
    held = select(func.count()).where(Webhook.attempt > 0, Webhook.due_at > now)
    oldest = func.min(func.greatest(Webhook.due_at, WebhookDelivery.next_at))
    return (
        select(literal("webhook"), held.scalar_subquery(), func.extract("epoch", now - oldest))
        .select_from(Webhook)
        .join(WebhookDelivery)
        .where(
            is_told(),
            Webhook.due_at <= now,
            WebhookDelivery.state == "pending",
            WebhookDelivery.next_at <= now,
        )
    )


def count_unfinished(db: Session) -> dict[str, int]:
    """Count the sessions in each unfinished state."""
    return dict.fromkeys(UNFINISHED_STATES, 0) | _count(
        db, AudioSession.state.in_(UNFINISHED_STATES)
    )


def count_finished(db: Session) -> dict[str, int]:
    """Count the sessions in each final state. Reads the whole table."""
    ended = [state for state in SESSION_STATES if state not in UNFINISHED_STATES]
    return dict.fromkeys(ended, 0) | _count(db, AudioSession.state.in_(ended))


def _count(db: Session, which: ColumnElement[bool]) -> dict[str, int]:
    rows = db.execute(
        select(AudioSession.state, func.count()).where(which).group_by(AudioSession.state)
    )
    return dict(rows.all())
