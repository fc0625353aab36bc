"""Queries for webhooks and their deliveries.

Changes of a webhook and its deliveries lock the webhook first, as its removal does.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NotRequired, TypedDict, Unpack

from sqlalchemy import (
    Row,
    Select,
    and_,
    case,
    delete,
    exists,
    func,
    insert,
    select,
    true,
    update,
)
from sqlalchemy.orm import Session
from sqlalchemy.sql.elements import ColumnElement, SQLColumnExpression

from db.queue import claims
from db.queue.claims import Claim
from db.tables.accounts import User
from db.tables.base import UNTRIED, JsonObject
from db.tables.sessions import AudioSession
from db.tables.webhooks import OVERLAP_S, WebhookDelivery, WebhookEndpoint


@dataclass(frozen=True, kw_only=True)
class DeliveryWork(claims.WorkItem):
    """A webhook at one try of one delivery.

    The number of tries is part of the address, so that a worker that was considered dead cannot
    write the outcome of an outdated try.
    """

    webhook_id: uuid.UUID
    delivery_id: uuid.UUID
    tries: int
    #: The session of the delivery; None for a ping.
    session_id: uuid.UUID | None
    state: str = "active"

    @property
    def table(self) -> type[WebhookEndpoint]:
        return WebhookEndpoint

    @property
    def names(self) -> dict[str, uuid.UUID]:
        return {"job_id": self.delivery_id}

    @property
    def origin(self) -> tuple[type[AudioSession], uuid.UUID]:
        # No session has the ID of a webhook: a ping continues no trace.
        return AudioSession, self.session_id or self.webhook_id

    def waits(self) -> ColumnElement[bool]:
        pending = exists().where(
            WebhookDelivery.id == self.delivery_id,
            WebhookDelivery.state == "pending",
            WebhookDelivery.tries == self.tries,
        )
        return and_(
            WebhookEndpoint.id == self.webhook_id, WebhookEndpoint.state == self.state, pending
        )


# --- webhooks ----------------------------------------------------------------------------------


class NewWebhookRow(TypedDict):
    """The columns of a new webhook."""

    id: uuid.UUID
    user_id: uuid.UUID
    url: str
    all_sessions: bool
    secret: str


class WebhookValues(TypedDict, total=False):
    """The columns of a webhook that are changed after its creation."""

    url: str
    all_sessions: bool
    secret: str | SQLColumnExpression[str]
    old_secret: SQLColumnExpression[str]
    old_secret_until: ColumnElement[datetime]
    state: str
    disabled_at: ColumnElement[datetime] | None
    disabled_reason: str | None
    failures: int
    failing_since: datetime | None


class DeliveryValues(TypedDict):
    """The columns of a delivery that a try changes, besides the number of tries."""

    log: list[JsonObject]
    state: NotRequired[str]
    finished_at: NotRequired[datetime]
    next_at: NotRequired[datetime]


def add_webhook(tx: Session, **values: Unpack[NewWebhookRow]) -> WebhookEndpoint:
    """Add a webhook.

    It counts as not nudged, so that its first delivery does not wait for a nudge that might be in
    flight.
    """
    return tx.execute(
        insert(WebhookEndpoint)
        .values(state="active", nudged_at=claims.seconds_from_now(-1), **values)
        .returning(WebhookEndpoint)
    ).scalar_one()


def count_webhooks(tx: Session, user_id: uuid.UUID) -> int:
    """Count the webhooks of a user."""
    return tx.execute(
        select(func.count()).select_from(WebhookEndpoint).where(WebhookEndpoint.user_id == user_id)
    ).scalar_one()


def webhooks(tx: Session, *, owner: uuid.UUID | None, limit: int) -> Sequence[WebhookEndpoint]:
    """Return the newest webhooks that an owner may see, newest first."""
    return tx.scalars(
        select(WebhookEndpoint)
        .where(_is_of(owner))
        .order_by(WebhookEndpoint.created_at.desc(), WebhookEndpoint.id)
        .limit(limit)
    ).all()


def get_webhook(
    tx: Session, webhook_id: uuid.UUID, *, owner: uuid.UUID | None = None
) -> WebhookEndpoint | None:
    """Return a webhook, or None; with an owner only if it is theirs."""
    return tx.scalars(
        select(WebhookEndpoint).where(WebhookEndpoint.id == webhook_id, _is_of(owner))
    ).one_or_none()


def lock_webhook(
    tx: Session, webhook_id: uuid.UUID, *, owner: uuid.UUID | None = None
) -> WebhookEndpoint | None:
    """Return a webhook as `get_webhook` does, locked for a change until the end of the transaction.

    Sessions can end meanwhile: the key lock of the trigger is compatible with this one.
    """
    return tx.scalars(
        select(WebhookEndpoint)
        .where(WebhookEndpoint.id == webhook_id, _is_of(owner))
        .with_for_update(key_share=True)
    ).one_or_none()


def change_webhook(tx: Session, webhook_id: uuid.UUID, values: WebhookValues) -> WebhookEndpoint:
    """Change a locked webhook, and make it due at once."""
    return tx.execute(
        update(WebhookEndpoint)
        .where(WebhookEndpoint.id == webhook_id)
        .values(**values, due_at=_unless_held(func.clock_timestamp()))
        .returning(WebhookEndpoint),
        execution_options={"synchronize_session": False, "populate_existing": True},
    ).scalar_one()


def make_due(tx: Session, webhook_id: uuid.UUID) -> None:
    """Make a locked webhook due at once, unless a worker holds it."""
    change_webhook(tx, webhook_id, {})


#: The values of a webhook that was enabled or got another URL.
FRESH: WebhookValues = {
    "state": "active",
    "disabled_at": None,
    "disabled_reason": None,
    "failures": 0,
    "failing_since": None,
}


def as_disabled(reason: str) -> WebhookValues:
    """Return the values of a disabled webhook."""
    return {"state": "disabled", "disabled_at": func.now(), "disabled_reason": reason}


def rotate_secret(tx: Session, webhook_id: uuid.UUID, secret: str) -> WebhookEndpoint:
    """Give a locked webhook a new secret. The previous one also signs for a while."""
    return change_webhook(
        tx,
        webhook_id,
        {
            "old_secret": WebhookEndpoint.secret,
            "old_secret_until": claims.seconds_from_now(OVERLAP_S),
            "secret": secret,
        },
    )


def sealed_secrets(
    tx: Session, *, after: uuid.UUID | None, limit: int
) -> Sequence[Row[uuid.UUID, str, str | None]]:
    """Return the encrypted secrets of webhooks, by ID, from the one after ``after`` on."""
    endpoint = WebhookEndpoint
    rows = select(endpoint.id, endpoint.secret, endpoint.old_secret).order_by(endpoint.id)
    if after is not None:
        rows = rows.where(endpoint.id > after)
    return tx.execute(rows.limit(limit)).all()


def reseal(tx: Session, webhook_id: uuid.UUID, sealed: str, resealed: str) -> None:
    """Replace an encrypted secret, unless it was rotated meanwhile."""
    for column in (WebhookEndpoint.secret, WebhookEndpoint.old_secret):
        tx.execute(
            update(WebhookEndpoint)
            .where(WebhookEndpoint.id == webhook_id, column == sealed)
            .values({column: resealed}),
            execution_options={"synchronize_session": False},
        )


def remove_webhook(tx: Session, webhook_id: uuid.UUID, *, owner: uuid.UUID | None) -> bool:
    """Remove a webhook with all of its deliveries; False if there is none."""
    return claims.changed(
        tx.execute(delete(WebhookEndpoint).where(WebhookEndpoint.id == webhook_id, _is_of(owner)))
    )


def _is_of(owner: uuid.UUID | None) -> ColumnElement[bool]:
    return true() if owner is None else WebhookEndpoint.user_id == owner


def _unless_held(due_at: ColumnElement[datetime]) -> ColumnElement[datetime]:
    """Return the new ``due_at`` of a webhook, which does not change while a worker holds it."""
    return case((WebhookEndpoint.attempt == 0, due_at), else_=WebhookEndpoint.due_at)


# --- the next delivery -------------------------------------------------------------------------


def _due_deliveries() -> Select[uuid.UUID, int, uuid.UUID | None]:
    """Return the query for the due deliveries of a webhook, the next one first."""
    return (
        select(WebhookDelivery.id, WebhookDelivery.tries, WebhookDelivery.session_id)
        .where(
            WebhookDelivery.webhook_id == WebhookEndpoint.id,
            WebhookDelivery.state == "pending",
            # Not clock_timestamp(): a condition of the index must not change while it is read.
            WebhookDelivery.next_at <= func.now(),
        )
        .order_by(WebhookDelivery.next_at, WebhookDelivery.id)
        .correlate(WebhookEndpoint)
    )


def receives_deliveries() -> ColumnElement[bool]:
    """Return the condition of webhooks that get deliveries: neither they nor their users are
    disabled.
    """
    is_disabled = exists().where(User.id == WebhookEndpoint.user_id, User.disabled_at.is_not(None))
    return and_(WebhookEndpoint.state == "active", ~is_disabled)


def has_something_due() -> ColumnElement[bool]:
    """Return the condition of webhooks with a due delivery, whether or not they still rest."""
    return and_(receives_deliveries(), _due_deliveries().exists())


def take_delivery(
    webhook_id: uuid.UUID, tx: Session, *, lease_s: float
) -> Claim[DeliveryWork] | None:
    """Claim a webhook for the next of its deliveries."""
    due = _due_deliveries().limit(1).lateral()
    found = tx.execute(
        select(due)
        .select_from(WebhookEndpoint)
        .join(due, true())
        .where(WebhookEndpoint.id == webhook_id, has_something_due())
    ).one_or_none()
    if found is None:
        return None
    work = DeliveryWork(
        webhook_id=webhook_id,
        delivery_id=found.id,
        tries=found.tries,
        session_id=found.session_id,
    )
    return claims.this(work, tx, lease_s=lease_s)


def end_try(
    tx: Session,
    work: DeliveryWork,
    *,
    attempt: int,
    webhook: WebhookValues,
    rest_s: float,
    delivery: DeliveryValues,
) -> bool:
    """Write the outcome of a try, and release the webhook to rest for ``rest_s`` seconds.

    False if the claim was lost. The webhook's row is changed first, which locks it.
    """
    due_at = claims.seconds_from_now(rest_s)
    values = {**webhook, **UNTRIED, "due_at": due_at}
    if not claims.update_held(tx, work, attempt, values):
        return False
    tx.execute(
        update(WebhookDelivery)
        .where(WebhookDelivery.id == work.delivery_id)
        .values(tries=WebhookDelivery.tries + 1, **delivery),
        execution_options={"synchronize_session": False},
    )
    return True


def is_due_again(tx: Session, webhook_id: uuid.UUID) -> bool:
    """Whether a released webhook has another due delivery. If so, the caller must nudge."""
    return claims.changed(
        tx.execute(
            update(WebhookEndpoint)
            .where(
                WebhookEndpoint.id == webhook_id, claims.due(WebhookEndpoint), has_something_due()
            )
            .values(nudged_at=func.clock_timestamp()),
            execution_options={"synchronize_session": False},
        )
    )
