"""Examples of ``/v1/jobs``."""

from __future__ import annotations

from services.openapi.examples.example import JOB_ID, Example

_RUN: dict[str, object] = {
    "id": JOB_ID,
    "job": "health_check",
    "slot": "2026-03-14T08:00:00Z",
    "source": "clock",
    "options": {},
    "state": "completed",
    "stage": "done",
    "percent": 100,
    "created_at": "2026-03-14T08:00:00Z",
    "started_at": "2026-03-14T08:00:00Z",
    "finished_at": "2026-03-14T08:00:01Z",
    "problem": None,
    "result": {
        "healthy": True,
        "faults": {},
        "checks": {"database": {"ok": True, "oldest_unfinished_s": None}},
    },
}

_JOB: dict[str, object] = {
    "name": "health_check",
    "cron": "0 * * * *",
    "why": "operators see a fault within the hour",
    "next_at": "2026-03-14T09:00:00Z",
    "latest_run": _RUN,
}

EXAMPLES: dict[str, Example] = {
    "GET /v1/jobs": Example(answer={"items": [_JOB]}),
    "GET /v1/jobs/{job}/runs": Example(answer={"items": [_RUN]}),
    "POST /v1/jobs/{job}/runs": Example(
        request={"options": {}},
        answer=_RUN
        | {
            "source": "person",
            "state": "pending",
            "stage": "waiting",
            "percent": 0,
            "started_at": None,
            "finished_at": None,
            "result": None,
        },
    ),
}
