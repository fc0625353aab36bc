"""Examples of ``/v1/models``, ``/v1/trainings`` and ``/v1/validations``."""

from __future__ import annotations

from services.openapi.examples.example import JOB_ID, MODEL_ID, VALIDATION_ID, Example

_MODEL: dict[str, object] = {
    "id": MODEL_ID,
    "name": "site-7",
    "version": "1",
    "algorithm": "random_forest",
    "classes": ["dog_bark", "siren_sweep"],
    "trained_types": [],
    "sha256": "6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b",
    "is_shipped": False,
    "in_use": True,
    "created_at": "2026-03-14T08:31:12.004000Z",
    "clip_accuracy": 0.93,
    "card": None,
}

_TRAINING: dict[str, object] = {
    "id": JOB_ID,
    "state": "pending",
    "stage": "waiting for a worker",
    "percent": 0,
    "created_at": "2026-03-14T08:30:00.120000Z",
    "started_at": None,
    "finished_at": None,
    "problem": None,
    "name": "site-7",
    "version": "1",
    "algorithm": "random_forest",
    "clips_total": 24,
    "clips_refused": [],
    "model_id": None,
    "warnings": [],
}

_VALIDATION: dict[str, object] = {
    "id": VALIDATION_ID,
    "state": "pending",
    "stage": "waiting for a worker",
    "percent": 0,
    "created_at": "2026-03-14T08:32:00.550000Z",
    "started_at": None,
    "finished_at": None,
    "problem": None,
    "model_id": MODEL_ID,
    "report": None,
}

EXAMPLES: dict[str, Example] = {
    "GET /v1/models": Example(
        answer={
            "items": [_MODEL],
            "next_cursor": None,
            "backbone": {
                "name": "mn04_as",
                "sha256": "899a8c6217063f6941793102a2780b3dd788ab11fce468d9cf5f0577c453321c",
                "present": True,
            },
        }
    ),
    "GET /v1/trainings": Example(
        query={"state": ["pending"]},
        answer={
            "items": [
                {
                    name: value
                    for name, value in _TRAINING.items()
                    if name not in ("clips_total", "clips_refused", "warnings")
                }
            ],
            "next_cursor": None,
        },
    ),
    "GET /v1/validations": Example(
        query={"sort": "created_at"},
        answer={
            "items": [{name: value for name, value in _VALIDATION.items() if name != "report"}],
            "next_cursor": None,
        },
    ),
    "POST /v1/models": Example(
        form={
            "options": '{"name": "site-7", "algorithm": "random_forest"}',
            "manifest": "@manifest.csv",
            "clip": ["@rex-1.wav", "@rex-2.wav"],
        },
        answer=_TRAINING,
    ),
    "DELETE /v1/models/{model_id:uuid}": Example(),
    "GET /v1/models/{model_id:uuid}": Example(
        answer=_MODEL | {"card": {"clips": 24, "classes": {"dog_bark": {"clips": 12, "f1": 0.92}}}}
    ),
    "GET /v1/models/{model_id:uuid}/confusion.png": Example(),
    "GET /v1/models/{model_id:uuid}/file": Example(),
    "POST /v1/models/{model_id:uuid}/promote": Example(
        request={"force": False},
        answer={
            "model_id": MODEL_ID,
            "promoted_at": "2026-03-14T08:40:00.331000Z",
            "forced": False,
            "comparison": {
                "basis": "validation",
                "figures": [
                    {"name": "event_f1", "candidate": 0.71, "in_use": 0.64, "is_worse": False}
                ],
                "lost_noise_types": [],
            },
        },
    ),
    "POST /v1/models/{model_id:uuid}/validate": Example(
        form={"manifest": "@held-out.csv", "clip": ["@street.flac"]}, answer=_VALIDATION
    ),
    "GET /v1/trainings/{job_id:uuid}": Example(
        answer=_TRAINING
        | {
            "state": "completed",
            "stage": "completed",
            "percent": 100,
            "started_at": "2026-03-14T08:30:01.002000Z",
            "finished_at": "2026-03-14T08:31:12.004000Z",
            "clips_refused": [
                {
                    "file": "rex-3.wav",
                    "label": "dog_bark",
                    "start_s": None,
                    "end_s": None,
                    "reason": "it cannot be decoded",
                }
            ],
            "model_id": MODEL_ID,
        }
    ),
    "POST /v1/validations": Example(
        form={"model": "@site-7.clamor"}, answer=_VALIDATION | {"model_id": None}
    ),
    "GET /v1/validations/{validation_id:uuid}": Example(
        answer=_VALIDATION
        | {
            "state": "completed",
            "stage": "completed",
            "percent": 100,
            "started_at": "2026-03-14T08:32:01.100000Z",
            "finished_at": "2026-03-14T08:32:04.870000Z",
            "report": {
                "passed": True,
                "checks": [{"name": "hash", "passed": True, "detail": ""}],
                "figures": {"event_f1": 0.71, "psds": 0.48, "false_alarms_per_hour": 1.2},
            },
        }
    ),
}
