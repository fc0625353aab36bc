"""Requests and answers about webhooks."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import UNSET, UnsetType

from actors.outbound.addresses import MOST_URL_CHARS
from db import typed
from db.tables import webhooks as webhook_models
from db.tables.documents.webhooks import Try

Url = Annotated[str, msgspec.Meta(min_length=1, max_length=MOST_URL_CHARS)]


class NewWebhook(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A new webhook: a URL to notify when sessions end."""

    #: A public http or https URL without a user name. Redirects are not followed.
    url: Url
    #: False to be notified only of sessions submitted with ``webhook=<id>``.
    all_sessions: bool = True


class WebhookChange(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A change of a webhook. Fields that are left out keep their values."""

    url: Url | UnsetType = UNSET
    all_sessions: bool | UnsetType = UNSET
    #: False stops deliveries; true resumes them, also after failures disabled the webhook.
    enabled: bool | UnsetType = UNSET


class Webhook(msgspec.Struct, kw_only=True):
    """A webhook, without its secret: a URL that is notified when sessions end."""

    id: uuid.UUID
    url: str
    all_sessions: bool
    #: active or disabled.
    state: str
    created_at: datetime
    #: Until when the previous secret signs too; null before the first rotation.
    old_secret_until: datetime | None
    #: Consecutive failed tries.
    failures: int
    #: When the current series of failures began; null if there is none.
    failing_since: datetime | None
    #: When the webhook was disabled; null while enabled.
    disabled_at: datetime | None
    #: Why the webhook was disabled; null while enabled.
    disabled_reason: str | None

    @classmethod
    def of(cls, row: webhook_models.WebhookEndpoint) -> Webhook:
        """Convert a row to a webhook."""
        return typed.convert(row, cls, from_attributes=True)


class WebhookPage(msgspec.Struct, kw_only=True):
    """The webhooks, newest first."""

    items: list[Webhook]


class MadeWebhook(msgspec.Struct, kw_only=True):
    """A webhook with a new secret, which signs its deliveries. It is shown only once."""

    webhook: Webhook
    #: ``whsec_`` and base64, as expected by Standard Webhooks libraries.
    secret: str


class Delivery(msgspec.Struct, kw_only=True):
    """A message to a webhook."""

    #: The ``webhook-id`` header of every try.
    id: uuid.UUID
    #: ``ping``, or ``session.completed``, ``.partial``, ``.failed``, ``.cancelled``.
    type: str
    session_id: uuid.UUID | None
    #: pending, delivered or failed.
    state: str
    created_at: datetime
    #: When the next try is due; null unless pending.
    next_at: datetime | None
    finished_at: datetime | None
    #: Number of tries so far.
    tries: int
    #: The latest tries, oldest first.
    log: list[Try]

    @classmethod
    def of(cls, row: webhook_models.WebhookDelivery) -> Delivery:
        """Convert a row to a delivery."""
        own = {name: getattr(row, name) for name in cls.__struct_fields__}
        if row.state != "pending":
            own["next_at"] = None
        return cls(**own | {"log": typed.convert(row.log, list[Try])})


class DeliveryPage(msgspec.Struct, kw_only=True):
    """A page of deliveries, newest first; pass ``next_cursor`` to get the next page."""

    items: list[Delivery]
    next_cursor: str | None
