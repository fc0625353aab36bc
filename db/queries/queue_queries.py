"""Queries for the rows of each kind of work: the backlog, and what has stalled.

The rows are authoritative and messages only nudge, so these figures are correct even if the broker
has lost messages.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    FromClause,
    Select,
    and_,
    case,
    func,
    inspect,
    literal,
    or_,
    select,
    tuple_,
    union_all,
    update,
)
from sqlalchemy.orm import InstrumentedAttribute, Session, join

from db.queries.webhook_queries import has_something_due, receives_deliveries
from db.queue import claims
from db.tables.base import Claimable, JobRow
from db.tables.batches import OPEN_STATES, AudioBatch
from db.tables.job_runs import JobRun
from db.tables.session_results import FINAL_STATES, SessionResult
from db.tables.sessions import UNFINISHED_STATES
from db.tables.spans import SessionSpan
from db.tables.unfinished import UnfinishedSession
from db.tables.webhooks import WebhookDelivery, WebhookEndpoint


@dataclass(frozen=True, kw_only=True)
class WorkRows:
    """The rows that are the work items of one kind."""

    table: type[Claimable]
    #: Holds for rows with unfinished work, whether or not they are due.
    waits: ColumnElement[bool]
    #: The columns that name a row in a message, by the message's field.
    names: Mapping[str, InstrumentedAttribute[Any]]
    #: The joined tables that ``waits`` refers to, if it needs more than ``table``.
    source: FromClause | None = None
    #: Whether a due row waits for another one that is held rather than for a worker.
    is_one_at_a_time: bool = False
    #: Selects the figures of :class:`Backlog`, if ``due_at`` alone does not decide when a row
    #: waits for a worker.
    backlog: Select[int, int, float | None] | None = None


@dataclass(frozen=True, kw_only=True)
class Backlog:
    """The unfinished rows of one kind."""

    #: Rows that a worker has claimed, or that wait for their next try after a failure. Both have a
    #: ``due_at`` in the future and cannot be distinguished.
    held: int = 0
    #: Rows that are due and wait for a worker.
    due: int = 0
    #: How long the oldest row has been due and unclaimed; None if there is no such row.
    oldest_s: float | None = None


# --- the rows of each kind ---------------------------------------------------------------------


def sessions_in(state: str) -> WorkRows:
    """Return the sessions in a stage. While a session is detecting, its spans are the items."""
    return WorkRows(
        table=UnfinishedSession,
        waits=UnfinishedSession.state == state,
        names={"session_id": UnfinishedSession.session_id},
    )


def pending(table: type[JobRow], **names: InstrumentedAttribute[uuid.UUID]) -> WorkRows:
    """Return the jobs of a table, which a message names by one field."""
    return WorkRows(table=table, waits=table.state == "pending", names=names)


def runs_of(job: str) -> WorkRows:
    """Return the runs of a periodic job, whose message names none of them."""
    waits = and_(JobRun.job == job, JobRun.state == "pending")
    return WorkRows(table=JobRun, waits=waits, names={}, is_one_at_a_time=True)


def _webhook_backlog() -> Select[int, int, float | None]:
    """Return the backlog of webhooks: those that have a due delivery and do not rest."""
    now = func.now()
    held = select(func.count()).where(WebhookEndpoint.attempt > 0, WebhookEndpoint.due_at > now)
    oldest = func.min(func.greatest(WebhookEndpoint.due_at, WebhookDelivery.next_at))
    return (
        select(held.scalar_subquery(), func.count(), func.extract("epoch", now - oldest))
        .select_from(WebhookEndpoint)
        .join(WebhookDelivery)
        .where(
            receives_deliveries(),
            WebhookEndpoint.due_at <= now,
            WebhookDelivery.state == "pending",
            WebhookDelivery.next_at <= now,
        )
    )


SPANS = WorkRows(
    table=SessionSpan,
    waits=and_(UnfinishedSession.state == "detecting", SessionSpan.state == "pending"),
    names={"session_id": SessionSpan.session_id, "span_index": SessionSpan.span_index},
    source=join(
        SessionSpan, UnfinishedSession, UnfinishedSession.session_id == SessionSpan.session_id
    ),
)
BATCHES = WorkRows(
    table=AudioBatch, waits=AudioBatch.state.in_(OPEN_STATES), names={"batch_id": AudioBatch.id}
)
#: A webhook is the item, not its delivery: so a receiver gets one request at a time.
WEBHOOKS = WorkRows(
    table=WebhookEndpoint,
    waits=has_something_due(),
    names={"webhook_id": WebhookEndpoint.id},
    backlog=_webhook_backlog(),
)


# --- stalled work ------------------------------------------------------------------------------


def take_stalled(
    tx: Session, rows: WorkRows, *, unnudged_s: float, limit: int
) -> list[dict[str, Any]]:
    """Return the names of rows that are due and not nudged recently; mark them as nudged."""
    table = rows.table
    key = inspect(table).primary_key
    waiting = (
        select(*key)
        .select_from(table if rows.source is None else rows.source)
        .where(
            rows.waits,
            claims.due(table),
            or_(
                table.nudged_at < table.due_at,
                table.nudged_at <= claims.seconds_from_now(-unnudged_s),
            ),
        )
        .limit(limit)
    )
    found = tx.execute(
        update(table)
        .where(tuple_(*key).in_(waiting))
        .values(nudged_at=func.clock_timestamp())
        # The state, so that there is a column even where a message names no row.
        .returning(table.state, *rows.names.values()),
        execution_options={"synchronize_session": False},
    )
    return [dict(zip(rows.names, row[1:], strict=True)) for row in found]


def count_due(tx: Session, rows: WorkRows, *, limit: int) -> int:
    """Count the rows that are due, up to ``limit``."""
    table = rows.table
    due = (
        select(literal(1))
        .select_from(table if rows.source is None else rows.source)
        .where(rows.waits, claims.due(table))
        .limit(limit)
    )
    return tx.scalar(select(func.count()).select_from(due.subquery())) or 0


# --- the backlog -------------------------------------------------------------------------------


def backlogs(tx: Session, kinds: Mapping[str, WorkRows]) -> dict[str, Backlog]:
    """Return the unfinished rows by kind, read from the partial indexes of unfinished rows."""
    rows = tx.execute(
        union_all(
            *(_backlog(of_kind).add_columns(literal(kind)) for kind, of_kind in kinds.items())
        )
    )
    return {
        kind: Backlog(held=held, due=due, oldest_s=None if oldest_s is None else float(oldest_s))
        for held, due, oldest_s, kind in rows
    }


def _backlog(rows: WorkRows) -> Select[*tuple[Any, ...]]:
    if rows.backlog is not None:
        return rows.backlog
    table, now = rows.table, func.now()
    held = func.count().filter(table.due_at > now, table.attempt > 0)
    oldest = func.min(table.due_at).filter(table.due_at <= now)
    figures: list[ColumnElement[Any]] = [
        func.count().filter(table.due_at <= now),
        func.extract("epoch", now - oldest),
    ]
    if rows.is_one_at_a_time:
        figures = [case((held == 0, figure)) for figure in figures]
        figures[0] = func.coalesce(figures[0], 0)
    return (
        select(held, *figures)
        .select_from(table if rows.source is None else rows.source)
        .where(rows.waits)
    )


# --- sessions by state -------------------------------------------------------------------------


def count_unfinished(tx: Session) -> dict[str, int]:
    """Count the sessions in each unfinished state."""
    return dict.fromkeys(UNFINISHED_STATES, 0) | _count(tx, UnfinishedSession.state)


def count_finished(tx: Session) -> dict[str, int]:
    """Count the sessions in each final state. Reads the whole table."""
    return dict.fromkeys(FINAL_STATES, 0) | _count(tx, SessionResult.outcome)


def _count(
    tx: Session, state: InstrumentedAttribute[str] | InstrumentedAttribute[str | None]
) -> dict[str, int]:
    rows = tx.execute(select(state, func.count()).where(state.is_not(None)).group_by(state))
    return {state: count for state, count in rows if state is not None}
