"""A row in every table."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select

from db.blobs.blob_store import Blobs
from db.ids import new_id
from db.store import Store
from db.tables.base import Base
from db.tables.idempotency import IdempotentRequest
from db.tables.job_runs import JobRun
from db.tables.metrics import ProcessingMetric
from db.tables.models import Promotion
from db.tables.requests import APIRequest, RequestMinute
from db.tables.retention import KeptClip, OrphanBlob, RemovedBlobs
from db.tables.spans import SessionSpan
from db.tables.training import TrainingClip
from db.tables.unfinished import SessionLeftovers, UnfinishedSession
from db.tables.usage_limits import RateBucket, UsageMonth
from services.openapi.examples import PARAMETERS
from tests.support import example_rows
from tests.support.example_rows import JOB, MODEL, SESSION, USER

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def fill(store: Store, blobs: Blobs) -> None:
    """Add the rows of the API's examples, and one to each table that they leave empty."""
    example_rows.add(store, blobs)
    with store.transaction() as tx:
        tx.add_all(_others())
        tx.flush()
        empty = [
            table.name
            for table in Base.metadata.tables.values()
            if tx.execute(select(table).limit(1)).first() is None
        ]
    assert empty == []


def _others() -> Iterator[Base]:
    clip: dict[str, Any] = {"noise_type": "rain", "confidence": 0.5, "start_s": 0.0, "end_s": 1.0}
    hashes = {"head_sha256": bytes(32), "body_sha256": bytes(32)}
    yield SessionSpan(
        session_id=SESSION, span_index=0, start_sample=0, stop_sample=16_000, state="done"
    )
    yield UnfinishedSession(session_id=SESSION, state="queued")
    yield SessionLeftovers(session_id=SESSION)
    yield ProcessingMetric(
        session_id=SESSION, step="split", attempt=1, result="done", duration_s=1.0
    )
    yield TrainingClip(job_id=JOB, clip_index=0, file_name="a.wav", label="rain", source="a")
    yield Promotion(model_id=MODEL, forced=False, comparison={})
    yield RateBucket(key_id=PARAMETERS["key_id"], tokens=1.0, per_s=1.0, burst=1.0)
    yield UsageMonth(user_id=USER, month=NOW.date(), audio_s=1.0, sessions=1)
    yield IdempotentRequest(
        user_id=USER, key="a", made_id=new_id(), attempt=1, due_at=NOW, **hashes
    )
    yield APIRequest(
        request_id="a",
        method="GET",
        route="/v1/sessions",
        status=200,
        duration_s=0.1,
        bytes_in=0,
        bytes_out=2,
    )
    yield RequestMinute(minute=NOW, key_id="a", requests=1, errors=0, bytes_in=0, bytes_out=2)
    yield JobRun(id=new_id(), job="clean_up", slot=NOW, source="clock", state="pending")
    yield KeptClip(
        id=new_id(), session_id=new_id(), file_name="a.wav", sent_at=NOW, blob_key="a", **clip
    )
    yield OrphanBlob(key="a", seen_at=NOW)
    yield RemovedBlobs(prefix="a")
