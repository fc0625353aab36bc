"""Queries for the deliveries of webhooks: their log, pings and replays."""

from __future__ import annotations

import uuid
from typing import Any

from sqlalchemy import Row, delete, func, insert, select, update
from sqlalchemy.orm import Session

from db.queries.paging import Keys, Order, Page
from db.queries.webhook_queries import make_due
from db.queue import claims
from db.tables.webhooks import PING, WebhookDelivery


def add_ping(tx: Session, webhook_id: uuid.UUID, *, ping_id: uuid.UUID) -> WebhookDelivery:
    """Add a ping for a locked webhook, due at once."""
    make_due(tx, webhook_id)
    return tx.execute(
        insert(WebhookDelivery)
        .values(id=ping_id, webhook_id=webhook_id, type=PING)
        .returning(WebhookDelivery)
    ).scalar_one()


def replay(tx: Session, webhook_id: uuid.UUID, delivery_id: uuid.UUID) -> WebhookDelivery | None:
    """Replay a delivery of a locked webhook at once, with a new round of tries.

    Return None if there is no such delivery. One that waits for its next try becomes due; one that
    is being tried continues.
    """
    make_due(tx, webhook_id)
    return tx.execute(
        update(WebhookDelivery)
        .where(WebhookDelivery.id == delivery_id, WebhookDelivery.webhook_id == webhook_id)
        .values(
            state="pending",
            next_at=func.now(),
            finished_at=None,
            round_start=WebhookDelivery.tries,
        )
        .returning(WebhookDelivery)
    ).scalar_one_or_none()


#: The deliveries of one webhook, the newest first.
DELIVERIES = Order((WebhookDelivery.created_at, WebhookDelivery.id), descending=True)


def deliveries(
    tx: Session, webhook_id: uuid.UUID, *, order: Order, after: Keys | None, limit: int
) -> Page[Row[Any]]:
    """Return a page of a webhook's deliveries."""
    of_webhook = select(WebhookDelivery).where(WebhookDelivery.webhook_id == webhook_id)
    return order.page(tx, of_webhook, after=after, limit=limit)


def get_delivery(tx: Session, delivery_id: uuid.UUID) -> WebhookDelivery | None:
    """Return a delivery, or None."""
    return tx.get(WebhookDelivery, delivery_id)


def remove_old_deliveries(tx: Session, *, older_than_s: float, limit: int) -> int:
    """Remove some deliveries older than this, whatever their state; return their number."""
    old = (
        select(WebhookDelivery.id)
        .where(WebhookDelivery.created_at < claims.seconds_ago(older_than_s))
        .order_by(WebhookDelivery.created_at)
        .limit(limit)
    )
    removed = tx.scalars(
        delete(WebhookDelivery).where(WebhookDelivery.id.in_(old)).returning(WebhookDelivery.id),
        execution_options={"synchronize_session": False},
    )
    return len(removed.all())
