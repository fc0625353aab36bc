"""The rows behind the examples of the API's description, so that they can be requested."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from typing import Any

from db.blobs.blob_store import Blobs
from db.blobs.keys import recording_key
from db.queries import session_queries
from db.store import Store
from db.tables.accounts import ApiKey, User
from db.tables.analyses import AnalysisJob
from db.tables.base import Base
from db.tables.batches import AudioBatch, AudioBatchItem
from db.tables.detections import NoiseDetection
from db.tables.exports import CLIP, Export
from db.tables.models import NoiseModel
from db.tables.reports import DailyReport
from db.tables.session_results import SessionResult
from db.tables.sessions import AudioSession
from db.tables.training import TrainingJob, Validation
from db.tables.webhooks import WebhookDelivery, WebhookEndpoint
from services.openapi.examples import EXAMPLES, PARAMETERS, example

(
    SESSION,
    BATCH,
    MODEL,
    JOB,
    VALIDATION,
    USER,
    WEBHOOK,
    DELIVERY,
    EXPORT,
    REPORT,
    DETECTION,
) = (
    uuid.UUID(each)
    for each in (
        example.SESSION_ID,
        example.BATCH_ID,
        example.MODEL_ID,
        example.JOB_ID,
        example.VALIDATION_ID,
        example.USER_ID,
        example.WEBHOOK_ID,
        example.DELIVERY_ID,
        example.EXPORT_ID,
        example.REPORT_ID,
        example.DETECTION_ID,
    )
)
RECORDING = b"fLaC" + bytes(range(256))
EXPORTED = b"session_id\r\n"
MODEL_FILE = b"the file of a model"


def add(store: Store, blobs: Blobs) -> None:
    """Add everything that the examples name: a completed session, its model, and so on."""
    levels = json.dumps(_answer("GET /v1/sessions/{session_id:uuid}/levels"))
    blobs.put("levels.json", [levels.encode()])
    blobs.put(recording_key(SESSION), [RECORDING])
    blobs.put("export.csv", [EXPORTED])
    blobs.put("clip.flac", [RECORDING])
    blobs.put("model.clamor", [MODEL_FILE])
    blobs.put("report.html", [b"<!doctype html>"])
    for picture in ("confusion.png", "spectrogram.png"):
        blobs.put(picture, [b"\x89PNG\r\n\x1a\n"])
    with store.transaction() as tx:
        for row in _rows(session_queries.clock(tx)):
            tx.add(row)
            # In this order: no row refers to a later one.
            tx.flush()


def _rows(now: datetime) -> Iterator[Base]:
    (answered,) = _answer("GET /v1/sessions/{session_id:uuid}/detections")["items"]
    # The database computes the ID.
    event = {name: answered[name] for name in answered.keys() - {"id", "third_octaves"}}
    event["third_octaves_db"] = [band["lzeq_db"] for band in answered["third_octaves"]]
    ended: dict[str, Any] = {
        "state": "completed",
        "percent": 100,
        "started_at": now,
        "finished_at": now,
        "model_id": MODEL,
        "user_id": USER,
    }
    key: dict[str, Any] = {"name": "street monitors", "scopes": ["sessions:read"]}
    told: dict[str, Any] = {"url": "https://example.org/clamor", "all_sessions": True}
    delivered = {"type": "session.completed", "state": "delivered", "tries": 1}
    yield User(id=USER, email="noise@example.org", name="Noise team")
    yield ApiKey(id=PARAMETERS["key_id"], user_id=USER, secret_hash=bytes(32), **key)
    yield _model()
    yield AudioBatch(id=BATCH, state="taken", options={}, items_total=1, next_item=1, user_id=USER)
    session = _session(started_at=now)
    yield session
    yield SessionResult(
        session_id=SESSION,
        user_id=USER,
        created_at=now,
        finished_at=now + timedelta(seconds=2),
        duration_s=_answer("GET /v1/sessions/{session_id:uuid}")["duration_s"],
        outcome=session.state,
    )
    yield AudioBatchItem(batch_id=BATCH, item_index=0, file_name="a", session_id=SESSION)
    yield NoiseDetection(session_id=SESSION, event_index=0, user_id=USER, **event)
    yield _analysis()
    yield TrainingJob(id=JOB, name="site-7", version=1, seed=0, **ended)
    yield Validation(id=VALIDATION, report={"passed": True, "checks": []}, **ended)
    exported = {"user_id": USER, "state": "completed", "percent": 100, "stage": "done"}
    exported |= {"selection": {}, "started_at": now, "finished_at": now}
    exported["expires_at"] = now + timedelta(days=7)
    file = {"format": "csv", "blob_key": "export.csv", "size_bytes": len(EXPORTED)}
    yield Export(id=EXPORT, rows_written=0, **exported, **file)
    file = {"format": CLIP, "blob_key": "clip.flac", "size_bytes": len(RECORDING)}
    yield Export(id=DETECTION, session_id=SESSION, rows_written=1, **exported, **file)
    yield _report(made_at=now, started_at=now, finished_at=now)
    yield WebhookEndpoint(id=WEBHOOK, user_id=USER, secret="whsec_c2hv", state="active", **told)
    yield WebhookDelivery(
        id=DELIVERY, webhook_id=WEBHOOK, session_id=SESSION, finished_at=now, **delivered
    )


def _report(**times: datetime) -> DailyReport:
    answer = _answer("GET /v1/reports/{report_id:uuid}")
    starts_at, ends_at = (datetime.fromisoformat(answer[name]) for name in ("starts_at", "ends_at"))
    return DailyReport(
        id=REPORT,
        user_id=USER,
        state="completed",
        percent=100,
        stage="done",
        day=date.fromisoformat(answer["day"]),
        time_zone=answer["time_zone"],
        starts_at=starts_at,
        ends_at=ends_at,
        report=answer["report"],
        made_from="",
        html_key="report.html",
        **times,
    )


def _answer(name: str) -> dict[str, Any]:
    answer = EXAMPLES[name].answer
    assert isinstance(answer, dict)
    return answer


def _model() -> NoiseModel:
    return NoiseModel(
        id=MODEL,
        name="site-7",
        version="1",
        sha256=hashlib.sha256(MODEL_FILE).hexdigest(),
        blob_key="model.clamor",
        header={"algorithm": "mlp", "classes": ["dog_bark"]},
        card={"clips": 24},
        confusion_key="confusion.png",
        user_id=USER,
    )


def _analysis() -> AnalysisJob:
    told = _answer("GET /v1/sessions/{session_id:uuid}/analysis")
    own = ("state", "stage", "percent", "limits_db", "result")
    return AnalysisJob(id=SESSION, asking_id=uuid.uuid4(), **{name: told[name] for name in own})


def _session(**times: Any) -> AudioSession:
    told = _answer("GET /v1/sessions/{session_id:uuid}")
    own = (
        "state",
        "file_name",
        "container",
        "codec",
        "rate_hz",
        "n_channels",
        "calibration_db",
        "spans_total",
        "spans_finished",
        "summary",
    )
    return AudioSession(
        id=SESSION,
        recording_key=recording_key(SESSION),
        size_bytes=len(RECORDING),
        levels_answer_key="levels.json",
        spectrogram_key="spectrogram.png",
        user_id=USER,
        batch_id=BATCH,
        **{name: told[name] for name in own},
        **times,
    )
