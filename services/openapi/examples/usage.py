"""The example of ``/v1/usage``."""

from __future__ import annotations

from services.openapi.examples.example import KEY_ID, USER_ID, Example

EXAMPLES: dict[str, Example] = {
    "GET /v1/usage": Example(
        query={"since": "2026-03-13T08:00:00Z", "until": "2026-03-14T08:00:00Z"},
        answer={
            "user_id": USER_ID,
            "limit_s": 360000.0,
            "used_s": 5400.5,
            "reserved_s": 30.0,
            "renews_at": "2026-04-01T00:00:00Z",
            "months": [
                {"month": "2026-03", "audio_s": 5400.5, "sessions": 12},
                {"month": "2026-02", "audio_s": 86400.0, "sessions": 96},
            ],
            "limits": [
                {"name": "unfinished_sessions", "used": 1, "most": 100000},
                {"name": "stored_bytes", "used": 48000000, "most": None},
                {"name": "unfinished_exports", "used": 0, "most": 20},
                {"name": "unfinished_trainings", "used": 0, "most": 20},
                {"name": "uploads", "used": 0, "most": 32},
                {"name": "downloads", "used": 0, "most": 32},
                {"name": "event_streams", "used": 1, "most": 16},
            ],
            "since": "2026-03-13T08:00:00Z",
            "until": "2026-03-14T08:00:00Z",
            "keys": [
                {
                    "key_id": KEY_ID,
                    "name": "street monitors",
                    "requests": 420,
                    "errors": 2,
                    "bytes_in": 48000000,
                    "bytes_out": 512000,
                }
            ],
        },
    ),
}
