"""Examples of ``/v1/reports``."""

from __future__ import annotations

from services.openapi.examples.example import KEY_ID, REPORT_ID, USER_ID, Example

_LEVELS = {
    "laeq_db": 61.2,
    "lday_db": 63.1,
    "levening_db": 59.8,
    "lnight_db": 54.0,
    "lden_db": 63.7,
}
_DAY = {
    "day": "2026-03-07",
    "sessions": 24,
    "audio_hours": 24.0,
    "detections": 381,
    "levels": {"dB SPL": _LEVELS},
}

_LISTED: dict[str, object] = {
    "id": REPORT_ID,
    "state": "completed",
    "stage": "done",
    "percent": 100,
    "created_at": "2026-03-15T01:00:00Z",
    "started_at": "2026-03-15T01:00:00Z",
    "finished_at": "2026-03-15T01:00:02Z",
    "problem": None,
    "day": "2026-03-14",
    "time_zone": "Europe/Berlin",
    "user_id": USER_ID,
    "starts_at": "2026-03-13T23:00:00Z",
    "ends_at": "2026-03-14T23:00:00Z",
    "made_at": "2026-03-15T01:00:02Z",
    "is_stale": False,
}

#: Only the first hour is shown; a report has all hours of the day.
_REPORT: dict[str, object] = _LISTED | {
    "report": {
        "version": 1,
        "day": "2026-03-14",
        "time_zone": "Europe/Berlin",
        "starts_at": "2026-03-13T23:00:00+00:00",
        "ends_at": "2026-03-14T23:00:00+00:00",
        "sessions": {
            "total": 24,
            "by_state": {"completed": 23, "failed": 1},
            "without_recorded_at": 0,
        },
        "audio_hours": 23.0,
        "hours": [
            {
                "label": "00:00+01:00",
                "begin": "2026-03-13T23:00:00+00:00",
                "length_s": 3600.0,
                "detections": 4,
            }
        ],
        "busiest_hours": [{"label": "08:00+01:00", "detections": 41}],
        "detections": {
            "total": 4,
            "by_type": {"siren": {"group": "other", "events": 4, "total_s": 51.2, "by_hour": [4]}},
            "by_group": {"other": {"events": 4, "total_s": 51.2, "by_hour": [4]}},
        },
        "sound": [
            {
                "level_reference": "dB SPL",
                **_LEVELS,
                "covered": {"day": 1.0, "evening": 1.0, "night": 0.875, "whole": 0.9583},
                "overload": {"overloaded_s": 24.84, "share": 0.0003, "energy_share": 0.0841},
                "hours": [{"laeq_db": 52.6, "covered": 1.0}],
            }
        ],
        "problems": [{"code": "unknown-format", "sessions": 1}],
        "latency": {"sessions": 23, "p50_s": 31.4, "p95_s": 40.2, "times_real_time_p50": 114.6},
        "api_usage": [
            {
                "key_id": KEY_ID,
                "name": "street monitors",
                "requests": 420,
                "errors": 2,
                "bytes_in": 48000000,
                "bytes_out": 512000,
            }
        ],
        "compared": {
            "week_ago": _DAY,
            "mean_of_days_before": {
                "days": 7,
                "sessions": 24.0,
                "audio_hours": 23.9,
                "detections": 377.0,
                "levels": {"dB SPL": _LEVELS},
            },
        },
    }
}

_ASKED: dict[str, object] = _LISTED | {
    "state": "pending",
    "stage": "waiting",
    "percent": 0,
    "started_at": None,
    "finished_at": None,
    "made_at": None,
}

EXAMPLES: dict[str, Example] = {
    "GET /v1/reports": Example(
        query={"day": "2026-03-14"}, answer={"items": [_LISTED], "next_cursor": None}
    ),
    "POST /v1/reports": Example(
        request={"day": "2026-03-14", "time_zone": "Europe/Berlin"}, answer=_ASKED
    ),
    "DELETE /v1/reports/{report_id:uuid}": Example(),
    "GET /v1/reports/{report_id:uuid}": Example(answer=_REPORT),
    "GET /v1/reports/{report_id:uuid}/html": Example(
        answer="<!doctype html><title>Noise report of 2026-03-14</title>..."
    ),
}
