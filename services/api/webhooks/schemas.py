"""What goes in and out about webhooks."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import UNSET, UnsetType

from actors.outbound.addresses import MOST_URL_CHARS
from db.tables import webhooks as webhook_models

Url = Annotated[str, msgspec.Meta(min_length=1, max_length=MOST_URL_CHARS)]


class NewWebhook(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """An address to be told of sessions that end."""

    #: Public, http or https, without a user name; redirects are not followed.
    url: Url
    #: False to hear only of sessions that are posted with ``webhook=<id>``.
    all_sessions: bool = True


class WebhookChange(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What is to be another; what is not named stays."""

    url: Url | UnsetType = UNSET
    all_sessions: bool | UnsetType = UNSET
    #: False: nothing is told any more. True: all goes on, also after failures disabled it.
    enabled: bool | UnsetType = UNSET


class Webhook(msgspec.Struct, kw_only=True):
    """An address that is told of sessions that end, without its secret."""

    id: uuid.UUID
    url: str
    all_sessions: bool
    #: active or disabled.
    state: str
    created_at: datetime
    #: Until when the secret before the latest rotation signs, too; null before the first.
    old_secret_until: datetime | None
    #: Tries in a row that failed, and since when.
    failures: int
    failing_since: datetime | None
    #: Since when, and why, nothing is told any more; null while it is.
    disabled_at: datetime | None
    disabled_reason: str | None

    @classmethod
    def of(cls, row: webhook_models.Webhook) -> Webhook:
        """The webhook of a row."""
        return msgspec.convert(row, cls, from_attributes=True)


class WebhookPage(msgspec.Struct, kw_only=True):
    """The webhooks, newest first."""

    items: list[Webhook]


class MadeWebhook(msgspec.Struct, kw_only=True):
    """A webhook with a new secret, which signs what it is told. It is shown this once."""

    webhook: Webhook
    #: ``whsec_`` and base64, as libraries of Standard Webhooks take it.
    secret: str


class Try(msgspec.Struct, kw_only=True):
    """One try to deliver."""

    at: datetime
    #: What the receiver answered; null if it did not.
    status: int | None
    duration_s: float
    #: Why it failed; null if it did not.
    error: str | None


class Delivery(msgspec.Struct, kw_only=True):
    """One thing that a webhook is told."""

    #: The ``webhook-id`` of every try.
    id: uuid.UUID
    #: ``ping``, or ``session.completed``, ``.partial``, ``.failed``, ``.cancelled``.
    type: str
    session_id: uuid.UUID | None
    #: pending, delivered or failed.
    state: str
    created_at: datetime
    #: When it is tried next; null unless it is pending.
    next_at: datetime | None
    finished_at: datetime | None
    #: How often it was tried.
    tries: int
    #: The latest tries, the oldest first.
    log: list[Try]

    @classmethod
    def of(cls, row: webhook_models.WebhookDelivery) -> Delivery:
        """The delivery of a row."""
        own = {name: getattr(row, name) for name in cls.__struct_fields__}
        if row.state != "pending":
            own["next_at"] = None
        return cls(**own | {"log": msgspec.convert(row.log, list[Try])})


class DeliveryPage(msgspec.Struct, kw_only=True):
    """A page of deliveries, newest first; ``next_cursor`` asks for the page behind."""

    items: list[Delivery]
    next_cursor: str | None
