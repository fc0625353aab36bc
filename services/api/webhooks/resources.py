"""``/v1/webhooks``: URLs notified when sessions end, and the deliveries to them."""

from __future__ import annotations

import base64
import secrets
import uuid

import falcon
from msgspec import UNSET
from sqlalchemy.orm import Session

from actors.messaging.messages import DeliverWebhook
from actors.outbound.client import Outbound
from actors.outbound.errors import Refused
from db.queries import account_queries, delivery_queries, webhook_queries
from db.queries.webhook_queries import WebhookValues
from db.tables.webhooks import WebhookEndpoint
from services.api.webhooks import schemas
from services.api.webhooks.errors import TooManyWebhooks, WebhookDisabled
from services.http import idempotency
from services.http.access import owner, principal
from services.http.caller_errors import SecretNotShown
from services.http.cursors import PageQuery
from services.http.errors import FieldError
from services.http.lists import Listed, Part, listing
from services.http.not_found import NotFound, or_404
from services.http.operations import body_of, operation
from services.http.request_errors import InvalidBody
from services.http.resource import Resource
from services.http.responses import answer

#: Webhooks per user. Each may occupy a worker; see ``actors/webhooks/deliver.py``.
MOST_WEBHOOKS = 10
#: Upper bound on the webhooks in the list; administrators see those of all users.
LISTED = 1_000
#: Bytes of a secret; Standard Webhooks specifies 24 to 64.
SECRET_BYTES = 32


def new_secret() -> str:
    """Return a new secret in the format of Standard Webhooks."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def _lock_or_404(tx: Session, webhook_id: uuid.UUID, *, owner: uuid.UUID | None) -> WebhookEndpoint:
    """Lock a webhook for a change; raises :class:`NotFound`, also for one of another user."""
    row = webhook_queries.lock_webhook(tx, webhook_id, owner=owner)
    return or_404(row, "webhook", webhook_id)


def _lock_enabled(
    tx: Session, webhook_id: uuid.UUID, *, owner: uuid.UUID | None
) -> WebhookEndpoint:
    """Lock an enabled webhook; raises :class:`WebhookDisabled` too."""
    row = _lock_or_404(tx, webhook_id, owner=owner)
    if row.state == "disabled":
        raise WebhookDisabled(f"the webhook is disabled ({row.disabled_reason}); enable it first")
    return row


def checked(outbound: Outbound, url: str) -> str:
    """Check a URL as far as possible without resolving its host name, and return it."""
    try:
        return str(outbound.check(url))
    except Refused as error:
        raise InvalidBody.of([FieldError(field="url", detail=str(error))]) from None


class WebhookList(Resource):
    """``/v1/webhooks``."""

    @operation(scope="sessions:read", answer=schemas.WebhookPage)
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """List webhooks, newest first."""
        with self.deps.store.reading() as tx:
            rows = webhook_queries.webhooks(tx, owner=owner(req), limit=LISTED)
        answer(resp, schemas.WebhookPage(items=[schemas.Webhook.of(row) for row in rows]))

    @operation(
        scope="sessions:write",
        body=schemas.NewWebhook,
        answer=schemas.MadeWebhook,
        status=201,
        problems=(TooManyWebhooks,),
        secret=True,
    )
    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Create a webhook. Its secret is returned only in this answer."""
        asked = body_of(req, schemas.NewWebhook)
        url = checked(self.deps.outbound, asked.url)
        user_id, secret = principal(req).user_id, new_secret()
        with self.deps.store.transaction() as tx:
            # Lock the user, so that concurrent requests cannot exceed the limit.
            account_queries.lock_user(tx, user_id)
            if webhook_queries.count_webhooks(tx, user_id) >= MOST_WEBHOOKS:
                raise TooManyWebhooks(f"a user may have at most {MOST_WEBHOOKS} webhooks")
            row = webhook_queries.add_webhook(
                tx,
                id=idempotency.new_id(req),
                user_id=user_id,
                url=url,
                secret=self.deps.secret_box.seal(secret),
                all_sessions=asked.all_sessions,
            )
        made = schemas.MadeWebhook(webhook=schemas.Webhook.of(row), secret=secret)
        answer(resp, made, status=201, location=f"/v1/webhooks/{row.id}")

    def replay(self, req: falcon.Request, resp: falcon.Response, made_id: uuid.UUID) -> None:
        """Refuse to show the secret of a webhook that an earlier attempt of the request created."""
        with self.deps.store.reading() as tx:
            or_404(webhook_queries.get_webhook(tx, made_id, owner=owner(req)), "webhook", made_id)
        resp.location = f"/v1/webhooks/{made_id}"
        raise SecretNotShown("an earlier attempt at this request created the webhook")


class WebhookItem(Resource):
    """``/v1/webhooks/{webhook_id}``."""

    @operation(scope="sessions:read", answer=schemas.Webhook, problems=(NotFound.of("webhook"),))
    def on_get(self, req: falcon.Request, resp: falcon.Response, webhook_id: uuid.UUID) -> None:
        """Return a webhook, with its state and the reason if it is disabled."""
        with self.deps.store.reading() as tx:
            row = webhook_queries.get_webhook(tx, webhook_id, owner=owner(req))
        answer(resp, schemas.Webhook.of(or_404(row, "webhook", webhook_id)))

    @operation(
        scope="sessions:write",
        body=schemas.WebhookChange,
        answer=schemas.Webhook,
        problems=(NotFound.of("webhook"),),
    )
    def on_patch(self, req: falcon.Request, resp: falcon.Response, webhook_id: uuid.UUID) -> None:
        """Change a webhook: its URL, the sessions it is notified of, or whether it is enabled."""
        asked = body_of(req, schemas.WebhookChange)
        values: WebhookValues = {}
        if asked.url is not UNSET:
            values["url"] = checked(self.deps.outbound, asked.url)
            # A new URL starts without failures.
            values["failures"], values["failing_since"] = 0, None
        if asked.all_sessions is not UNSET:
            values["all_sessions"] = asked.all_sessions
        if asked.enabled is not UNSET:
            values |= (
                webhook_queries.FRESH
                if asked.enabled
                else webhook_queries.as_disabled("turned off by its owner")
            )
        with self.deps.store.transaction() as tx:
            _lock_or_404(tx, webhook_id, owner=owner(req))
            row = webhook_queries.change_webhook(tx, webhook_id, values)
        self.deps.publisher.send(DeliverWebhook(webhook_id=webhook_id))
        answer(resp, schemas.Webhook.of(row))

    @operation(scope="sessions:write", status=204, problems=(NotFound.of("webhook"),))
    def on_delete(self, req: falcon.Request, resp: falcon.Response, webhook_id: uuid.UUID) -> None:
        """Delete a webhook and its deliveries. Pending deliveries are not sent."""
        with self.deps.store.transaction() as tx:
            removed = webhook_queries.remove_webhook(tx, webhook_id, owner=owner(req))
        or_404(removed, "webhook", webhook_id)
        resp.status = 204


class WebhookRotate(Resource):
    """``POST /v1/webhooks/{webhook_id}/rotate``."""

    @operation(
        scope="sessions:write",
        answer=schemas.MadeWebhook,
        problems=(NotFound.of("webhook"),),
        secret=True,
    )
    def on_post(self, req: falcon.Request, resp: falcon.Response, webhook_id: uuid.UUID) -> None:
        """Rotate the secret of a webhook. The new secret is returned only in this answer. For one
        day, deliveries are signed with the old secret too.
        """
        secret = new_secret()
        with self.deps.store.transaction() as tx:
            _lock_or_404(tx, webhook_id, owner=owner(req))
            row = webhook_queries.rotate_secret(tx, webhook_id, self.deps.secret_box.seal(secret))
        answer(resp, schemas.MadeWebhook(webhook=schemas.Webhook.of(row), secret=secret))


class WebhookTest(Resource):
    """``POST /v1/webhooks/{webhook_id}/test``."""

    @operation(
        scope="sessions:write",
        answer=schemas.Delivery,
        status=202,
        problems=(WebhookDisabled, NotFound.of("webhook")),
    )
    def on_post(self, req: falcon.Request, resp: falcon.Response, webhook_id: uuid.UUID) -> None:
        """Send a ping to a webhook. It is tried once; the list of deliveries shows the result."""
        with self.deps.store.transaction() as tx:
            _lock_enabled(tx, webhook_id, owner=owner(req))
            row = delivery_queries.add_ping(tx, webhook_id, ping_id=idempotency.new_id(req))
        self.deps.publisher.send(DeliverWebhook(webhook_id=webhook_id))
        answer(resp, schemas.Delivery.of(row), status=202)

    def replay(self, _req: falcon.Request, resp: falcon.Response, made_id: uuid.UUID) -> None:
        """Answer with the ping that an earlier attempt of this request created."""
        with self.deps.store.reading() as tx:
            row = or_404(delivery_queries.get_delivery(tx, made_id), "delivery", made_id)
        answer(resp, schemas.Delivery.of(row), status=202)


class WebhookDeliveries(Resource):
    """``GET /v1/webhooks/{webhook_id}/deliveries``."""

    @listing(
        scope="sessions:read",
        query=PageQuery,
        answer_type=schemas.DeliveryPage,
        orders=delivery_queries.DELIVERIES,
        problems=(NotFound.of("webhook"),),
    )
    def on_get(
        self,
        tx: Session,
        _asked: PageQuery,
        part: Part,
        owner: uuid.UUID | None,
        webhook_id: uuid.UUID,
    ) -> Listed:
        """List the deliveries of a webhook with their tries, newest first."""
        or_404(webhook_queries.get_webhook(tx, webhook_id, owner=owner), "webhook", webhook_id)
        page = delivery_queries.deliveries(tx, webhook_id, **part)
        return Listed(page, lambda row: schemas.Delivery.of(row[0]))


class DeliveryReplay(Resource):
    """``POST /v1/webhooks/{webhook_id}/deliveries/{delivery_id}/replay``."""

    @operation(
        scope="sessions:write",
        answer=schemas.Delivery,
        status=202,
        problems=(NotFound.of("delivery"), WebhookDisabled, NotFound.of("webhook")),
    )
    def on_post(
        self,
        req: falcon.Request,
        resp: falcon.Response,
        webhook_id: uuid.UUID,
        delivery_id: uuid.UUID,
    ) -> None:
        """Repeat a delivery, immediately, with the same ID and as many tries as a new one."""
        with self.deps.store.transaction() as tx:
            _lock_enabled(tx, webhook_id, owner=owner(req))
            row = delivery_queries.replay(tx, webhook_id, delivery_id)
            if row is None:
                raise NotFound.of("delivery")(
                    f"the webhook has no delivery with the ID {delivery_id}"
                )
        self.deps.publisher.send(DeliverWebhook(webhook_id=webhook_id))
        answer(resp, schemas.Delivery.of(row), status=202)
