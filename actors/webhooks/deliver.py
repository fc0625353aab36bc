"""``deliver_webhook``: send the next delivery of a webhook.

The database creates the deliveries (see ``db/tables/webhooks.py``); this module posts them
according to Standard Webhooks. A rejection by the receiver is not a failure of this task: the
delivery is retried on its own schedule.

The response of the receiver decides three things: whether the delivery is finished, how long the
webhook rests before the next request, and whether it is disabled.
"""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import partial

import msgspec
from sqlalchemy.orm import Session
from standardwebhooks import Webhook as Signer

from actors.execution import failures, runner
from actors.execution.failures import Permanent
from actors.execution.lease import Lease
from actors.execution.runtime import Runtime
from actors.messaging.messages import DeliverWebhook, Nudge
from actors.observability import metrics
from actors.outbound.client import Outbound
from actors.outbound.errors import OutboundError
from actors.outbound.pinning import ExchangeLimits
from db.queries import delivery_queries, session_queries, webhook_queries
from db.queries.webhook_queries import DeliveryValues, DeliveryWork, WebhookValues
from db.tables.base import JsonObject, StoredProblem
from db.tables.documents.webhooks import Try
from db.tables.sessions import AudioSession
from db.tables.webhooks import PING, TRIES_KEPT, WebhookDelivery, WebhookEndpoint

#: The limits of one request, including DNS resolution. Longer tolerates slow receivers; but a
#: worker does nothing else meanwhile. Only the status of the response is read.
LIMITS = ExchangeLimits(total_s=10.0, most_bytes=0)
#: The delay after each try of a delivery, as in Standard Webhooks: about two days in total.
PAUSES_S = (5.0, 300.0, 1_800.0, 7_200.0, 18_000.0, 36_000.0, 50_400.0, 72_000.0)
#: Each delay is longer by up to this share, so that deliveries that failed together are not retried
#: together.
JITTER = 0.1
#: A receiver that took longer than this is slow. It then rests for `RESTS` times as long as it
#: took, so that all of its deliveries together occupy at most a fifth of one worker.
SLOW_S = 1.0
RESTS = 4
#: A webhook is disabled after this many consecutive failures over this long: those of a single
#: delivery from its first try to its last suffice.
MOST_FAILURES = len(PAUSES_S) + 1
MOST_FAILING_S = 2 * 86_400.0
GONE = 410

_random = random.SystemRandom()


class EndedSession(msgspec.Struct, kw_only=True):
    """The session in the payload of a delivery: its outcome, and its path for the rest."""

    id: uuid.UUID
    #: completed, partial, failed or cancelled.
    state: str
    #: Its path in the API.
    url: str
    file_name: str
    duration_s: float | None
    finished_at: datetime | None
    #: The metadata that the session was posted with.
    metadata: JsonObject
    #: As the API shows them.
    summary: JsonObject | None
    problem: StoredProblem | None


class WebhookEvent(msgspec.Struct, kw_only=True):
    """The body of every delivery."""

    #: ``ping``, or ``session.`` and its state.
    type: str
    #: When it happened: the same for every try. The header has the time of the try.
    timestamp: datetime
    #: The session; empty in a ping.
    data: EndedSession | dict[str, str]


def deliver_webhook(runtime: Runtime, nudge: DeliverWebhook) -> None:
    """Send the next delivery of a webhook; the commit nudges for the one after it."""
    take = partial(webhook_queries.take_delivery, nudge.webhook_id)
    runner.run(runtime, nudge, take, partial(_deliver, runtime))


def _deliver(runtime: Runtime, work: DeliveryWork) -> runner.Task:
    def perform(_hold: Lease) -> runner.Result:
        with runtime.store.transaction() as tx:
            webhook = _webhook(tx, work)
            delivery = _delivery(tx, work)
            body = msgspec.json.encode(_event(tx, delivery))
            sealed = _secrets(webhook, now=session_queries.clock(tx))
        secrets = [runtime.secret_box.open(each) for each in sealed]
        tried = post(runtime.outbound, webhook.url, delivery.id, body, secrets=secrets)
        return runner.Result(_write(work, tried))

    return runner.Task(name="notify", work=work, perform=perform, give_up=_give_up(work))


def _webhook(tx: Session, work: DeliveryWork) -> WebhookEndpoint:
    webhook = webhook_queries.get_webhook(tx, work.webhook_id)
    if webhook is None:
        # Removed since it was claimed.
        raise failures.ClaimLost
    return webhook


def _delivery(tx: Session, work: DeliveryWork) -> WebhookDelivery:
    delivery = delivery_queries.get_delivery(tx, work.delivery_id)
    if delivery is None:
        raise failures.ClaimLost
    return delivery


def _event(tx: Session, delivery: WebhookDelivery) -> WebhookEvent:
    """Return the payload, which is the same for every try: an ended session does not change."""
    if delivery.session_id is None:
        return WebhookEvent(type=PING, timestamp=delivery.created_at, data={})
    session = session_queries.get_session(tx, delivery.session_id)
    if session is None:
        raise Permanent("session-removed", "the session is no longer stored")
    return WebhookEvent(type=delivery.type, timestamp=delivery.created_at, data=_ended(session))


def _ended(session: AudioSession) -> EndedSession:
    return EndedSession(
        id=session.id,
        state=session.state,
        url=f"/v1/sessions/{session.id}",
        file_name=session.file_name,
        duration_s=session.duration_s,
        finished_at=session.finished_at,
        metadata=session.user_metadata,
        summary=session.summary,
        problem=session.problem,
    )


def _secrets(webhook: WebhookEndpoint, *, now: datetime) -> list[str]:
    """Return the encrypted signing secrets: for a while after a rotation, also the previous one."""
    overlaps = webhook.old_secret_until is not None and now < webhook.old_secret_until
    return [webhook.secret, *([webhook.old_secret] if overlaps and webhook.old_secret else [])]


def post(
    outbound: Outbound, url: str, webhook_id: uuid.UUID, body: bytes, *, secrets: Sequence[str]
) -> Try:
    """Post an event once. Return every outcome, even a failure, as a :class:`Try`."""
    at, began = datetime.now(UTC), time.monotonic()
    signatures = (Signer(secret).sign(str(webhook_id), at, body.decode()) for secret in secrets)
    headers = {
        "Content-Type": "application/json",
        "webhook-id": str(webhook_id),
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": " ".join(signatures),
    }
    status: int | None = None
    error: str | None = None
    try:
        with outbound.post(url, body, headers=headers, limits=LIMITS) as answer:
            status = answer.status
            answer.require_success()
    except OutboundError as failure:
        error = str(failure)
    metrics.webhook_requested(succeeded=error is None)
    return Try(at=at, status=status, duration_s=round(time.monotonic() - began, 3), error=error)


def _write(work: DeliveryWork, tried: Try) -> runner.Write:
    def write(tx: Session, attempt: int) -> Sequence[Nudge] | None:
        # Locked first, in the same order as a replay of the delivery or a removal of the webhook.
        webhook = webhook_queries.lock_webhook(tx, work.webhook_id)
        if webhook is None:
            return None
        now = session_queries.clock(tx)
        held = webhook_queries.end_try(
            tx,
            work,
            attempt=attempt,
            webhook=_of_webhook(webhook, tried, now=now),
            rest_s=_rest_s(webhook, tried),
            delivery=_of_delivery(_delivery(tx, work), tried, now=now),
        )
        if not held:
            return None
        more = webhook_queries.is_due_again(tx, work.webhook_id)
        return [DeliverWebhook(webhook_id=work.webhook_id)] if more else []

    return write


def _of_webhook(webhook: WebhookEndpoint, tried: Try, *, now: datetime) -> WebhookValues:
    """Return the columns of the webhook that a try changes."""
    if tried.error is None:
        return WebhookValues(failures=0, failing_since=None)
    n_failures = webhook.failures + 1
    since = webhook.failing_since or now
    values = WebhookValues(failures=n_failures, failing_since=since)
    if tried.status == GONE:
        return values | webhook_queries.as_disabled("the receiver answered 410 Gone")
    is_too_long = now - since >= timedelta(seconds=MOST_FAILING_S)
    if n_failures >= MOST_FAILURES and is_too_long:
        reason = f"{n_failures} tries in a row failed since {since:%Y-%m-%d %H:%M} UTC"
        return values | webhook_queries.as_disabled(f"{reason}; the last one: {tried.error}")
    return values


def _of_delivery(delivery: WebhookDelivery, tried: Try, *, now: datetime) -> DeliveryValues:
    """Return the columns of the delivery that a try changes."""
    log = _log(delivery, tried)
    if tried.error is None:
        return DeliveryValues(log=log, state="delivered", finished_at=now)
    n_tries = delivery.tries - delivery.round_start
    # A ping is not retried: its caller watches the result and can repeat it.
    if delivery.type == PING or tried.status == GONE or n_tries >= len(PAUSES_S):
        return DeliveryValues(log=log, state="failed", finished_at=now)
    pause_s = PAUSES_S[n_tries] * _random.uniform(1, 1 + JITTER)
    return DeliveryValues(log=log, next_at=now + timedelta(seconds=pause_s))


def _log(delivery: WebhookDelivery, tried: Try) -> list[JsonObject]:
    return [*delivery.log, msgspec.to_builtins(tried)][-TRIES_KEPT:]


def _rest_s(webhook: WebhookEndpoint, tried: Try) -> float:
    """Return how long a webhook rests after a try.

    The rest grows with the number of consecutive failures and with the duration of the try.
    """
    rest_s = RESTS * tried.duration_s if tried.duration_s > SLOW_S else 0.0
    if tried.error is None:
        return rest_s
    return max(rest_s, failures.delay_s(min(webhook.failures + 1, MOST_FAILURES)))


def _give_up(work: DeliveryWork) -> runner.GiveUp:
    """Return a ``give_up`` for a delivery that cannot be sent, or that kills its workers.

    It does not count as a failure of the receiver.
    """

    def give_up(tx: Session, attempt: int, problem: StoredProblem) -> Sequence[Nudge] | None:
        if webhook_queries.lock_webhook(tx, work.webhook_id) is None:
            return None
        now = session_queries.clock(tx)
        tried = Try(at=now, status=None, duration_s=0.0, error=problem["detail"])
        log = _log(_delivery(tx, work), tried)
        ended = DeliveryValues(log=log, state="failed", finished_at=now)
        held = webhook_queries.end_try(
            tx, work, attempt=attempt, webhook={}, rest_s=0.0, delivery=ended
        )
        return [] if held else None

    return give_up
