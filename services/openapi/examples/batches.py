"""Examples of ``/v1/batches``."""

from __future__ import annotations

from services.openapi.examples.example import BATCH_ID, SESSION_ID, Example

_EXPANDING: dict[str, object] = {
    "id": BATCH_ID,
    "state": "expanding",
    "percent": 0,
    "priority": "normal",
    "created_at": "2026-03-14T08:30:00.120000Z",
    "files_total": 2,
    "files": {"waiting": 2},
    "duration_s": 0.0,
    "noise_types": {},
    "problem": None,
}

EXAMPLES: dict[str, Example] = {
    "GET /v1/batches": Example(
        query={"state": ["processing"]},
        answer={
            "items": [
                {
                    "id": BATCH_ID,
                    "state": "processing",
                    "priority": "normal",
                    "created_at": "2026-03-14T08:30:00.120000Z",
                    "files_total": 2,
                    "problem": None,
                }
            ],
            "next_cursor": None,
        },
    ),
    "POST /v1/batches": Example(
        request={
            "keys": ["inbox/site-7/street.flac", "inbox/site-7/yard.flac"],
            "recorded_at": ["2026-03-14T09:00:00+01:00", None],
        },
        form={"file": ["@street.flac", "@yard.flac"]},
        answer=_EXPANDING,
    ),
    "DELETE /v1/batches/{batch_id:uuid}": Example(),
    "GET /v1/batches/{batch_id:uuid}": Example(
        answer=_EXPANDING
        | {
            "state": "finished",
            "percent": 100,
            "files": {"completed": 1, "refused": 1},
            "duration_s": 30.0,
            "noise_types": {"dog_bark": {"events": 1, "total_s": 1.5, "max_confidence": 0.94}},
        }
    ),
    "GET /v1/batches/{batch_id:uuid}/items": Example(
        query={"limit": 100},
        answer={
            "items": [
                {
                    "index": 0,
                    "file_name": "street.flac",
                    "key": "inbox/site-7/street.flac",
                    "session_id": SESSION_ID,
                    "state": "completed",
                    "recorded_at": "2026-03-14T08:00:00Z",
                    "duration_s": 30.0,
                    "events": 1,
                    "reason": None,
                },
                {
                    "index": 1,
                    "file_name": "yard.flac",
                    "key": "inbox/site-7/yard.flac",
                    "session_id": None,
                    "state": "refused",
                    "recorded_at": None,
                    "duration_s": None,
                    "events": None,
                    "reason": "there is no such file",
                },
            ],
            "next_cursor": None,
        },
    ),
    "POST /v1/batches/{batch_id:uuid}/cancel": Example(
        answer=_EXPANDING
        | {"state": "cancelled", "percent": 100, "files": {"cancelled": 1, "not_taken": 1}}
    ),
}
