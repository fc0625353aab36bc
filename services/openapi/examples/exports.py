"""Examples of ``/v1/exports``."""

from __future__ import annotations

from services.openapi.examples.example import EXPORT_ID, SESSION_ID, Example

_SELECTION: dict[str, object] = {
    "session_ids": [SESSION_ID],
    "batch_id": None,
    "created_from": None,
    "created_to": None,
    "states": [],
    "noise_types": [],
    "min_confidence": 0.5,
}
_EXPORT: dict[str, object] = {
    "id": EXPORT_ID,
    "state": "pending",
    "stage": "waiting",
    "percent": 0,
    "created_at": "2026-03-14T08:41:00.120000Z",
    "started_at": None,
    "finished_at": None,
    "problem": None,
    "format": "csv",
    "selection": _SELECTION,
    "rows_written": None,
    "size_bytes": None,
    "expires_at": "2026-03-21T08:41:00.120000Z",
}
_DONE: dict[str, object] = _EXPORT | {
    "state": "completed",
    "stage": "done",
    "percent": 100,
    "started_at": "2026-03-14T08:41:00.240000Z",
    "finished_at": "2026-03-14T08:41:00.710000Z",
    "rows_written": 14,
    "size_bytes": 1_873,
}

EXAMPLES: dict[str, Example] = {
    "POST /v1/exports": Example(
        request={"format": "csv", "session_ids": [SESSION_ID], "min_confidence": 0.5},
        answer=_EXPORT,
    ),
    "GET /v1/exports": Example(
        query={"state": ["completed"]}, answer={"items": [_DONE], "next_cursor": None}
    ),
    "GET /v1/exports/{export_id:uuid}": Example(answer=_DONE),
    "GET /v1/exports/{export_id:uuid}/file": Example(),
    "DELETE /v1/exports/{export_id:uuid}": Example(),
}
