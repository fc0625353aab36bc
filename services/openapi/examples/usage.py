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
            "renews_at": "2026-04-01T00:00:00Z",
            "months": [
                {"month": "2026-03", "audio_s": 5400.5, "sessions": 12},
                {"month": "2026-02", "audio_s": 86400.0, "sessions": 96},
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
