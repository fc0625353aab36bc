"""Examples of ``/v1/users`` and ``/v1/keys``."""

from __future__ import annotations

from services.openapi.examples.example import KEY_ID, MODEL_ID, USER_ID, Example

_USER: dict[str, object] = {
    "id": USER_ID,
    "email": "noise@example.org",
    "name": "Noise team",
    "created_at": "2026-03-14T08:00:00Z",
    "disabled_at": None,
    "max_audio_s_per_month": None,
}

_KEY: dict[str, object] = {
    "id": KEY_ID,
    "user_id": USER_ID,
    "name": "street monitors",
    "scopes": ["sessions:read", "sessions:write"],
    "created_at": "2026-03-14T08:01:00Z",
    "expires_at": None,
    "revoked_at": None,
    "requests_per_s": None,
}

#: Not a real key: its secret is too short.
_MADE = {"key": _KEY, "secret": f"clamor_{KEY_ID}_shown-this-once"}

EXAMPLES: dict[str, Example] = {
    "GET /v1/users": Example(answer={"items": [_USER]}),
    "POST /v1/users": Example(
        request={"email": "noise@example.org", "name": "Noise team"}, answer=_USER
    ),
    "GET /v1/users/{user_id:uuid}": Example(answer=_USER),
    "DELETE /v1/users/{user_id:uuid}": Example(
        answer={
            "user_id": USER_ID,
            "done": True,
            "rows": {"api_keys": 1, "audio_sessions": 12, "noise_detections": 240, "users": 1},
            "blobs": 48,
            "trained_models": [MODEL_ID],
            "models_in_use": [],
        }
    ),
    "POST /v1/users/{user_id:uuid}/disable": Example(
        answer=_USER | {"disabled_at": "2026-03-14T09:00:00Z"}
    ),
    "POST /v1/users/{user_id:uuid}/enable": Example(answer=_USER),
    "PATCH /v1/users/{user_id:uuid}": Example(
        request={"max_audio_s_per_month": 360000.0},
        answer=_USER | {"max_audio_s_per_month": 360000.0},
    ),
    "GET /v1/users/{user_id:uuid}/keys": Example(answer={"items": [_KEY]}),
    "POST /v1/users/{user_id:uuid}/keys": Example(
        request={
            "name": "street monitors",
            "scopes": ["sessions:read", "sessions:write"],
            "expires_in_days": 365,
        },
        answer=_MADE,
    ),
    "GET /v1/keys/{key_id}": Example(answer=_KEY),
    "PATCH /v1/keys/{key_id}": Example(
        request={"requests_per_s": 5.0}, answer=_KEY | {"requests_per_s": 5.0}
    ),
    "DELETE /v1/keys/{key_id}": Example(answer=_KEY | {"revoked_at": "2026-03-14T10:00:00Z"}),
    "POST /v1/keys/{key_id}/rotate": Example(request={"overlap_hours": 24}, answer=_MADE),
}
