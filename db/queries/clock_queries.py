"""Times in rows that the database's clock will not reach for long, since it was set back."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from sqlalchemy import func, update
from sqlalchemy.orm import Session

from db.queue import claims
from db.tables.base import Claimable
from db.tables.webhooks import WebhookDelivery


def pull_back(
    tx: Session, table: type[Claimable], *, beyond_s: float, by_s: float | None = None
) -> int:
    """Move the unfinished rows that are due in more than ``beyond_s`` seconds; return their number.

    They are due ``by_s`` seconds earlier, by default now. Messages that came before were ignored,
    so they count as not nudged.
    """
    due_at = func.now() if by_s is None else table.due_at - timedelta(seconds=by_s)
    return _count(
        tx,
        update(table)
        .where(table.state.in_(table.unfinished), table.due_at > claims.seconds_from_now(beyond_s))
        .values(due_at=due_at, nudged_at=func.least(due_at, func.now()) - timedelta(seconds=1)),
    )


def pull_back_deliveries(tx: Session, *, by_s: float) -> int:
    """Move the deliveries of webhooks that wait for their next try; return their number."""
    next_at = WebhookDelivery.next_at
    return _count(
        tx,
        update(WebhookDelivery)
        .where(WebhookDelivery.state == "pending", next_at > func.now())
        .values(next_at=next_at - timedelta(seconds=by_s)),
    )


def _count(tx: Session, statement: Any) -> int:
    result: Any = tx.execute(statement, execution_options={"synchronize_session": False})
    return int(result.rowcount)
