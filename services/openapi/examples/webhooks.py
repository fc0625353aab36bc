"""Examples of ``/v1/webhooks``."""

from __future__ import annotations

from services.openapi.examples.example import DELIVERY_ID, SESSION_ID, WEBHOOK_ID, Example

_WEBHOOK: dict[str, object] = {
    "id": WEBHOOK_ID,
    "url": "https://example.org/clamor",
    "all_sessions": True,
    "state": "active",
    "created_at": "2026-03-14T08:00:00Z",
    "old_secret_until": None,
    "failures": 0,
    "failing_since": None,
    "disabled_at": None,
    "disabled_reason": None,
}

#: Not a real secret: those are longer.
_MADE = {"webhook": _WEBHOOK, "secret": "whsec_c2hvd24gdGhpcyBvbmNl"}

_DELIVERED: dict[str, object] = {
    "id": DELIVERY_ID,
    "type": "session.completed",
    "session_id": SESSION_ID,
    "state": "delivered",
    "created_at": "2026-03-14T08:02:31Z",
    "next_at": None,
    "finished_at": "2026-03-14T08:02:40Z",
    "tries": 2,
    "log": [
        {
            "at": "2026-03-14T08:02:33Z",
            "status": 503,
            "duration_s": 0.041,
            "error": "the server answered 503",
        },
        {"at": "2026-03-14T08:02:39Z", "status": 204, "duration_s": 0.087, "error": None},
    ],
}

_WAITS = {"state": "pending", "next_at": "2026-03-14T09:00:00Z", "finished_at": None}
_PING = _DELIVERED | _WAITS | {"type": "ping", "session_id": None, "tries": 0, "log": []}

EXAMPLES: dict[str, Example] = {
    "GET /v1/webhooks": Example(answer={"items": [_WEBHOOK]}),
    "POST /v1/webhooks": Example(
        request={"url": "https://example.org/clamor", "all_sessions": True}, answer=_MADE
    ),
    "GET /v1/webhooks/{webhook_id:uuid}": Example(answer=_WEBHOOK),
    "PATCH /v1/webhooks/{webhook_id:uuid}": Example(
        request={"url": "https://example.org/clamor", "all_sessions": True, "enabled": True},
        answer=_WEBHOOK,
    ),
    "DELETE /v1/webhooks/{webhook_id:uuid}": Example(),
    "POST /v1/webhooks/{webhook_id:uuid}/rotate": Example(
        answer=_MADE | {"webhook": _WEBHOOK | {"old_secret_until": "2026-03-15T09:00:00Z"}}
    ),
    "POST /v1/webhooks/{webhook_id:uuid}/test": Example(answer=_PING),
    "GET /v1/webhooks/{webhook_id:uuid}/deliveries": Example(
        query={"limit": 50}, answer={"items": [_DELIVERED], "next_cursor": None}
    ),
    "POST /v1/webhooks/{webhook_id:uuid}/deliveries/{delivery_id:uuid}/replay": Example(
        answer=_DELIVERED | _WAITS
    ),
}
