"""Examples of a session's analysis."""

from __future__ import annotations

from services.openapi.examples.example import SESSION_ID, Example

_RESULT: dict[str, object] = {
    "duration_s": 30.0,
    "level_reference": "dB SPL",
    "overload": {"overloaded_s": 0.27, "share": 0.009, "first_s": 12.61},
    "events": 1,
    "heard_s": 1.5,
    "heard_share": 0.05,
    "noise_types": [
        {
            "noise_type": "dog_bark",
            "group": "nature",
            "events": 1,
            "total_s": 1.5,
            "heard_s": 1.5,
            "heard_share": 0.05,
            "mean_confidence": 0.94,
            "min_confidence": 0.94,
            "max_confidence": 0.94,
            "confidence_events": [0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
        }
    ],
    "confidence": {"class_width": 0.1, "events": [0, 0, 0, 0, 0, 0, 0, 0, 0, 1]},
    "minutes": {
        "step_s": 60.0,
        "laeq_db": [61.2],
        "overloaded_s": [0.27],
        "events_begun": {"dog_bark": [1]},
        "heard_s": {"dog_bark": [1.5]},
    },
    "loudest": [
        {
            "start_s": 12.5,
            "end_s": 14.0,
            "noise_type": "dog_bark",
            "confidence": 0.94,
            "laeq_db": 68.1,
            "lafmax_db": 74.3,
            "overloaded": True,
        }
    ],
    "energy": {
        "laeq_db": 61.2,
        "noise_types": [{"share": 0.2449, "laeq_db": 55.09, "noise_type": "dog_bark"}],
        "background": {"share": 0.7551, "laeq_db": 59.98},
        "unheard": {"share": 0.0, "laeq_db": None},
        "main_source": "background",
    },
    "exceedances": [
        {
            "level": "LAeq",
            "limit_db": 65.0,
            "above_s": 2.0,
            "above_share": 0.0667,
            "exceedances": 1,
            "longest_s": 2.0,
            "longest_start_s": 12.0,
            "heard_s": {"dog_bark": 1.5},
            "background_s": 0.5,
        }
    ],
    "processing": {
        "waited_s": 0.29,
        "took_s": 2.32,
        "times_real_time": 12.93,
        "stages": [
            {
                "step": "detect",
                "runs": {"retried": 1, "done": 1},
                "total_s": 1.21,
                "longest_s": 0.92,
                "times_real_time": 24.79,
            }
        ],
        "retries": 1,
        "spans_total": 1,
        "spans_failed": 0,
        "missing_s": 0.0,
    },
}
_LIMITS_DB: dict[str, object] = {"LAeq": [65.0]}
_PENDING: dict[str, object] = {
    "id": SESSION_ID,
    "state": "pending",
    "stage": "waiting",
    "percent": 0,
    "created_at": "2026-03-14T08:31:10.050000Z",
    "started_at": None,
    "finished_at": None,
    "problem": None,
    "limits_db": _LIMITS_DB,
    "result": None,
}
_COMPLETED: dict[str, object] = _PENDING | {
    "state": "completed",
    "stage": "done",
    "percent": 100,
    "started_at": "2026-03-14T08:31:10.061000Z",
    "finished_at": "2026-03-14T08:31:10.098000Z",
    "result": _RESULT,
}

EXAMPLES: dict[str, Example] = {
    "GET /v1/sessions/{session_id:uuid}/analysis": Example(answer=_COMPLETED),
    "POST /v1/sessions/{session_id:uuid}/analysis": Example(
        request={"limits_db": {"LAeq": 65}}, answer=_PENDING
    ),
}
