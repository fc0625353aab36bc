"""Examples of ``/v1/sessions``."""

from __future__ import annotations

from services.openapi.examples.example import (
    DETECTION_ID,
    MODEL_ID,
    SESSION_ID,
    USER_ID,
    Example,
)

_LEVELS_DB = {
    "laeq_db": 61.2,
    "lceq_db": 66.0,
    "lzeq_db": 67.4,
    "lae_db": 76.0,
    "lafmax_db": 74.3,
    "lasmax_db": 71.9,
    "lafmin_db": 47.1,
    "lcpeak_db": 91.6,
    "l5_db": 66.8,
    "l10_db": 64.9,
    "l50_db": 57.3,
    "l90_db": 50.2,
    "l95_db": 48.8,
}

_BOUNDS: dict[str, object] = {
    "overload": {"overloaded_s": 0.27, "share": 0.009, "first_s": 12.61},
    "under_range": {
        "limit_db": 49.74,
        "under_range_s": 2.0,
        "share": 0.0667,
        "upper_bounds": ["lafmin_db", "l95_db"],
    },
}

QUEUED: dict[str, object] = {
    "id": SESSION_ID,
    "state": "queued",
    "stage": "waiting to be checked",
    "percent": 0,
    "speed": None,
    "time_left_s": None,
    "file_name": "street.flac",
    "size_bytes": 1_843_200,
    "source_url": None,
    "container": None,
    "codec": None,
    "rate_hz": None,
    "n_channels": None,
    "duration_s": None,
    "calibration_db": 119.87,
    "calibration_tone_db": None,
    "bands": None,
    "noise_floor_db": 42.0,
    "channel": "energy_mean",
    "model_id": None,
    "thresholds": {},
    "types": [],
    "privacy": "keep",
    "audio_removed_at": None,
    "recorded_at": "2026-03-14T08:00:00Z",
    "recorded_at_source": {"from": "caller", "zone": "given"},
    "time_zone": "Europe/Berlin",
    "metadata": {"site": "bridge", "floor": 3},
    "priority": "normal",
    "batch_id": None,
    "webhook_id": None,
    "spans_total": 0,
    "spans_finished": 0,
    "spans_failed": 0,
    "created_at": "2026-03-14T08:30:00.120000Z",
    "started_at": None,
    "finished_at": None,
    "summary": None,
    "problem": None,
}

COMPLETED: dict[str, object] = QUEUED | {
    "state": "completed",
    "stage": "completed",
    "percent": 100,
    "container": "flac",
    "codec": "flac",
    "rate_hz": 48_000,
    "n_channels": 2,
    "duration_s": 30.0,
    "model_id": MODEL_ID,
    "spans_total": 1,
    "spans_finished": 1,
    "started_at": "2026-03-14T08:30:00.410000Z",
    "finished_at": "2026-03-14T08:30:02.730000Z",
    "summary": {
        "events": 1,
        "noise_types": {"dog_bark": {"events": 1, "total_s": 1.5, "max_confidence": 0.94}},
        **_LEVELS_DB,
        "level_reference": "dB SPL",
        **_BOUNDS,
        "channels": {"used": [1], "silent": [2], "identical": [], "inverted": []},
        "model": {"id": MODEL_ID, "name": "clamor-base", "version": "5"},
        "unused_types": [],
        "audio_begins_s": 0.0,
    },
}

CANCELLED: dict[str, object] = QUEUED | {
    "state": "cancelled",
    "stage": "cancelled",
    "percent": 100,
    "finished_at": "2026-03-14T08:30:01.050000Z",
}

_EVENTS = f"""\
retry: 1000
id: 1187
event: progress
data: {{"id":"{SESSION_ID}","state":"detecting","stage":"listening for noise","percent":57,...}}

id: 1203
event: done
data: {{"id":"{SESSION_ID}","state":"completed","stage":"completed","percent":100,...}}

"""

_DETECTION: dict[str, object] = {
    "id": DETECTION_ID,
    "heard_at": "2026-03-14T08:00:12.500000Z",
    "start_s": 12.5,
    "end_s": 14.0,
    "noise_type": "dog_bark",
    "confidence": 0.94,
    "laeq_db": 68.1,
    "lafmax_db": 74.3,
    "lae_db": 69.86,
    "lasmax_db": 69.2,
    "lcpeak_db": 88.9,
    "background_la90_db": 52.4,
    "emergence_db": 15.7,
    "above_background_s": 1.29,
    "overloaded": True,
    "candidates": [
        {"noise_type": "dog_bark", "score": 0.94},
        {"noise_type": "rooster", "score": 0.03},
    ],
    "third_octaves": None,
}
_FOUND: dict[str, object] = _DETECTION | {
    "session_id": SESSION_ID,
    "file_name": "street.flac",
    "level_reference": "dB SPL",
}
_THIRD_OCTAVES: list[dict[str, float]] = [
    {"nominal_hz": 25.0, "exact_hz": 25.1189, "lzeq_db": 38.2},
    {"nominal_hz": 31.5, "exact_hz": 31.6228, "lzeq_db": 40.6},
]
#: An example cursor; its contents are internal.
CURSOR = (
    "WzEsIjBzS3lRYk9rTlpQVyIsWyIyMDI2LTAzLTE0VDA4OjMwOjAwLjEyMDAwMFoiLCI1YjJmMGMzZS0x"
    "ZDY1LTRhN2YtOGM5MC0yZjFlNmQ3YThiOTAiXV0"
)

EXAMPLES: dict[str, Example] = {
    "PUT /v1/sessions/{session_id:uuid}/hold": Example(
        answer={"session_id": SESSION_ID, "legal_hold": True}
    ),
    "DELETE /v1/sessions/{session_id:uuid}/hold": Example(
        answer={"session_id": SESSION_ID, "legal_hold": False}
    ),
    "POST /v1/sessions": Example(
        query={
            "calibration_db": 119.87,
            "noise_floor_db": 42.0,
            "recorded_at": "2026-03-14T09:00:00+01:00",
            "time_zone": "Europe/Berlin",
            "metadata": '{"site": "bridge", "floor": 3}',
        },
        form={"file": "@street.flac"},
        request={"source_url": "https://recorder.example/2026/street.flac?sig=..."},
        answer=QUEUED,
    ),
    "POST /v1/uploads": Example(
        answer={
            "upload_id": SESSION_ID,
            "method": "PUT",
            "url": f"https://recordings.s3.amazonaws.com/uploads/{SESSION_ID}/{USER_ID}?X-Amz-...",
            "headers": {},
            "expires_at": "2026-03-14T09:30:00.120000Z",
        }
    ),
    "GET /v1/sessions": Example(
        query={
            "state": ["completed"],
            "noise_type": ["dog_bark"],
            "min_confidence": 0.8,
            "limit": 20,
        },
        answer={"items": [COMPLETED], "next_cursor": CURSOR},
    ),
    "GET /v1/sessions/{session_id:uuid}": Example(answer=COMPLETED),
    "DELETE /v1/sessions/{session_id:uuid}": Example(),
    "GET /v1/sessions/{session_id:uuid}/events": Example(answer=_EVENTS),
    "GET /v1/sessions/{session_id:uuid}/recording": Example(),
    "DELETE /v1/sessions/{session_id:uuid}/recording": Example(),
    "GET /v1/sessions/{session_id:uuid}/spectrogram.png": Example(),
    "POST /v1/sessions/{session_id:uuid}/cancel": Example(answer=CANCELLED),
    "POST /v1/sessions/{session_id:uuid}/retry": Example(answer=QUEUED),
    "POST /v1/sessions/retry": Example(
        request={"which": "given-up", "finished_from": "2026-03-01T00:00:00Z"},
        answer={"retried": 500, "left": 112},
    ),
    "POST /v1/sessions/deletions": Example(
        request={"created_to": "2026-01-01T00:00:00Z", "metadata": {"site": "bridge"}},
        answer={"deleted": 500, "left": 112, "held": 3, "trained_models": [MODEL_ID]},
    ),
    "GET /v1/sessions/{session_id:uuid}/detections": Example(
        query={"limit": 100, "sort": "-confidence", "include": "third_octaves"},
        answer={
            "items": [_DETECTION | {"third_octaves": _THIRD_OCTAVES}],
            "level_reference": "dB SPL",
            "next_cursor": None,
        },
    ),
    "GET /v1/detections": Example(
        query={
            "noise_type": ["dog_bark"],
            "heard_from": "2026-03-14T08:00:00Z",
            "metadata": '{"site": "bridge"}',
            "sort": "heard_at",
        },
        answer={"items": [_FOUND], "next_cursor": None},
    ),
    "GET /v1/detections/{detection_id:uuid}": Example(answer=_FOUND),
    "GET /v1/detections/{detection_id:uuid}/clip.flac": Example(),
    "GET /v1/detections/summary": Example(
        query={
            "by": "hour",
            "heard_from": "2026-03-14T00:00:00+01:00",
            "heard_to": "2026-03-15T00:00:00+01:00",
            "time_zone": "Europe/Berlin",
        },
        answer={
            "by": "hour",
            "time_zone": "Europe/Berlin",
            "heard_from": "2026-03-14T00:00:00+01:00",
            "heard_to": "2026-03-15T00:00:00+01:00",
            "items": [
                {
                    "begins_at": "2026-03-14T09:00:00+01:00",
                    "noise_type": None,
                    "events": 1,
                    "total_s": 1.5,
                    "levels": [{"level_reference": "dB SPL", "laeq_db": 68.1, "lafmax_db": 74.3}],
                }
            ],
        },
    ),
    "GET /v1/sessions/{session_id:uuid}/levels": Example(
        answer={
            "unit": "dB",
            "level_reference": "dB SPL",
            "calibration_db": 119.87,
            "duration_s": 3.0,
            "supported_hz": [10.0, 20_000.0],
            "overall": _LEVELS_DB,
            **_BOUNDS,
            "channels": [
                {
                    "channel": 1,
                    "is_used": True,
                    "state": "live",
                    "other_channel": None,
                    "laeq_db": 61.2,
                    "lceq_db": 66.0,
                    "lzeq_db": 67.4,
                    "lcpeak_db": 91.6,
                },
                {
                    "channel": 2,
                    "is_used": False,
                    "state": "silent",
                    "other_channel": None,
                    "laeq_db": 22.7,
                    "lceq_db": 27.1,
                    "lzeq_db": 29.0,
                    "lcpeak_db": 40.5,
                },
            ],
            "laf_interval_s": 0.0005,
            "third_octaves": [
                {"nominal_hz": 25.0, "exact_hz": 25.1189, "lzeq_db": 41.3},
                {"nominal_hz": 31.5, "exact_hz": 31.6228, "lzeq_db": 43.8},
            ],
            "series": {
                "step_s": 1.0,
                "laeq_db": [60.9, 62.2, 59.8],
                "lafmax_db": [64.0, 66.1, 63.3],
                "overloaded": [False, True, False],
                "under_range": [False, False, False],
            },
        }
    ),
}
