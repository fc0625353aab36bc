"""A worker in this process over a real Postgres: what it writes, and when it gives up."""

from __future__ import annotations

import errno
import hashlib
import uuid
from datetime import UTC, datetime, timedelta

import dramatiq
import pytest
from dramatiq.brokers.stub import StubBroker
from sqlalchemy import text
from sqlalchemy.orm import Session

from actors import worker
from actors.audio.detect import detect_span
from actors.execution import failures, progress
from actors.execution.runtime import Runtime
from actors.messaging import messages
from actors.messaging.messages import DetectSpan, ProcessAudioFile, SplitRecording
from actors.recovery import Recovery
from actors.science.types import UNCLASSIFIED
from db.blobs.keys import recording_key
from db.queries import session_queries
from db.queue import fair_order
from db.queue.claims import SessionWork
from tests.support import accounts, recordings
from tests.support.pipeline import (
    add,
    detections_of,
    handle,
    put_into,
    run_to_the_end,
    session,
    summary_of,
    work_of,
)

pytestmark = pytest.mark.integration


def test_every_message_twice_changes_nothing(runtime: Runtime) -> None:
    session_id = add(runtime, recordings.encode(recordings.long(2.5)))
    done = run_to_the_end(runtime, session_id)
    assert done.state == "completed"
    assert (done.spans_finished, done.spans_total) == (3, 3)
    assert done.summary is not None
    with runtime.store.transaction() as tx:
        events = detections_of(tx, session_id)
        rows = tx.execute(
            text(
                "SELECT step, count(*) FROM processing_metrics WHERE result = 'done' GROUP BY step"
            )
        )
        runs = {step: count for step, count in rows}  # noqa: C416
    assert [event.event_index for event in events] == list(range(summary_of(done).events))
    for event in events:
        scores = [candidate["score"] for candidate in event.candidates]
        assert scores == sorted(scores, reverse=True)
        assert len(scores) == (0 if event.noise_type == UNCLASSIFIED else 5)
        assert [each["noise_type"] for each in event.candidates[:1]] in ([], [event.noise_type])
    assert runs == {"process": 1, "split": 1, "detect": 3, "aggregate": 1, "analyze": 1}


def test_aggregating_again_gives_the_same_detections_with_the_same_ids(runtime: Runtime) -> None:
    recorded_at = datetime(2026, 3, 1, 22, tzinfo=UTC)
    content = recordings.encode(recordings.long(2.5))
    session_id = add(runtime, content, recorded_at=recorded_at)
    other_id = add(runtime, content)
    run_to_the_end(runtime, session_id)

    def found(session_id: uuid.UUID) -> list[tuple[object, ...]]:
        with runtime.store.transaction() as tx:
            events = detections_of(tx, session_id)
        return [(each.id, each.event_index, each.heard_at, each.user_id) for each in events]

    first, confidence = found(session_id), session(runtime, session_id).max_confidence
    others = found(other_id)
    assert first
    assert {each[2] for each in others} == {None}
    assert {each[0] for each in others}.isdisjoint(each[0] for each in first)
    assert confidence is not None
    with runtime.store.transaction() as tx:
        for event in detections_of(tx, session_id):
            named = hashlib.sha256(session_id.bytes + str(event.event_index).encode()).digest()
            assert event.id == uuid.UUID(bytes=_version_8(named[:16]))
            assert event.heard_at == recorded_at + timedelta(seconds=event.start_s)
            assert event.user_id == accounts.TEAM
            assert event.confidence <= confidence
        tx.execute(text("DELETE FROM noise_detections WHERE session_id = :id"), {"id": session_id})
        put_into(tx, session_id, "aggregating", finished_at=None, max_confidence=None)
    handle(runtime, messages.AggregateSession(session_id=session_id))
    assert found(session_id) == first
    assert session(runtime, session_id).max_confidence == confidence


def _version_8(data: bytes) -> bytes:
    """Set the version and the variant of a UUID, as `DETECTION_ID` does."""
    digits = list(data.hex())
    digits[12] = digits[16] = "8"
    return bytes.fromhex("".join(digits))


def test_recovery_tidies_up_behind_a_finished_session(runtime: Runtime) -> None:
    session_id = add(runtime, recordings.encode(recordings.demo()))
    done = run_to_the_end(runtime, session_id)
    assert done.pcm_key in runtime.blobs.keys("sessions/")
    Recovery(runtime).round()
    kept = {
        recording_key(session_id),
        done.levels_key,
        done.levels_answer_key,
        done.spectrogram_key,
    }
    assert set(runtime.blobs.keys("sessions/")) == kept
    assert session(runtime, session_id).pcm_key is None


def test_a_poison_session_is_given_up_without_being_run_again(runtime: Runtime) -> None:
    session_id = add(runtime, recordings.encode(recordings.demo()))
    for _ in range(runtime.settings.max_attempts):
        with runtime.store.transaction() as tx:
            # A worker that dies: it claims, and then disappears.
            assert fair_order.next_session(tx, state="queued", lease_s=0)
    runtime.blobs.delete(recording_key(session_id))
    handle(runtime, ProcessAudioFile(session_id=session_id))
    ended = session(runtime, session_id)
    assert ended.state == "failed"
    assert ended.problem is not None
    assert ended.problem["code"] == "given-up"


def test_a_lost_span_leaves_a_partial_session_that_says_what_is_missing(runtime: Runtime) -> None:
    session_id = add(runtime, recordings.encode(recordings.long(2.5)))
    handle(runtime, ProcessAudioFile(session_id=session_id))
    handle(runtime, SplitRecording(session_id=session_id))
    detect_span(runtime, DetectSpan(session_id=session_id, span_index=0))
    for _ in range(runtime.settings.max_attempts):
        with runtime.store.transaction() as tx:
            claim = fair_order.next_span(tx, lease_s=0)
            assert claim is not None
            assert claim.work.span_index == 1
    detect_span(runtime, DetectSpan(session_id=session_id, span_index=1))
    done = run_to_the_end(runtime, session_id)
    assert done.state == "partial"
    assert done.problem is not None
    [missing] = done.problem["missing"]
    # A minute, shifted by the start of the frame grid.
    assert (missing["start_s"], missing["end_s"]) == pytest.approx((60.0, 120.0), abs=0.2)
    assert missing["end_s"] - missing["start_s"] == pytest.approx(60.0)
    assert "given up" in missing["reason"]
    with runtime.store.transaction() as tx:
        events = detections_of(tx, session_id)
    assert events
    assert not [event for event in events if 60.5 < event.start_s < 119.5]


def test_a_failure_that_may_pass_is_tried_again_later(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    session_id = add(runtime, recordings.encode(recordings.demo()))

    def full_disk(_key: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "/secret/place")

    with monkeypatch.context() as patched:
        patched.setattr(runtime.blobs, "open", full_disk)
        handle(runtime, ProcessAudioFile(session_id=session_id))
    waiting = work_of(runtime, session_id)
    assert waiting.state == "queued"
    assert waiting.attempt == 1
    assert waiting.last_error == failures.judge(OSError(errno.ENOSPC, "")).reason
    assert waiting.due_at > waiting.nudged_at
    monkeypatch.setattr(failures, "RETRY_BASE_S", 0)
    with runtime.store.transaction() as tx:
        tx.execute(text("UPDATE unfinished_sessions SET due_at = now()"))
    assert run_to_the_end(runtime, session_id).state == "completed"


def test_a_recording_that_vanished_fails_for_good(runtime: Runtime) -> None:
    session_id = add(runtime, b"x")
    runtime.blobs.delete(recording_key(session_id))
    ended = run_to_the_end(runtime, session_id)
    assert ended.state == "failed"
    assert ended.problem is not None
    assert ended.problem["code"] == "recording-missing"


def test_a_message_that_cannot_be_read_becomes_a_dead_letter(
    runtime: Runtime, memory: StubBroker
) -> None:
    worker.declare(memory, runtime)
    working = dramatiq.Worker(memory, worker_threads=1, worker_timeout=50)
    queue = messages.queue_name(DetectSpan, prefix=runtime.settings.queue_prefix)
    memory.enqueue(
        dramatiq.Message(
            queue_name=queue,
            actor_name=DetectSpan.actor,
            args=(),
            kwargs={"session_id": "nobody"},
            options={},
        )
    )
    working.start()
    memory.join(queue, timeout=20_000)
    working.stop()
    assert [message.kwargs for message in memory.dead_letters] == [{"session_id": "nobody"}]


@pytest.mark.parametrize("container", ["FLAC", "OGG"])
def test_a_stage_tells_how_far_it_is(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch, container: str
) -> None:
    """By the duration in the header (FLAC), or by the bytes read (Opus)."""
    told: dict[str, list[float]] = {}

    def spy(tx: Session, work: SessionWork, *, attempt: int, share: float) -> bool:
        told.setdefault(work.state, []).append(share)
        return note(tx, work, attempt=attempt, share=share)

    note = session_queries.note_share
    monkeypatch.setattr(session_queries, "note_share", spy)
    monkeypatch.setattr(progress, "EVERY_S", 0.0)
    subtype, rate_hz = ("OPUS", 48_000) if container == "OGG" else ("PCM_16", recordings.RATE_HZ)
    content = recordings.encode(
        recordings.demo(), container=container, subtype=subtype, rate_hz=rate_hz
    )
    assert run_to_the_end(runtime, add(runtime, content)).state == "completed"
    assert set(told) == {"splitting", "aggregating"}
    for shares in told.values():
        assert shares == sorted(shares)
        assert len(shares) > 5
        assert shares[0] < 0.3
        assert 0.7 < shares[-1] <= 1.0


def test_a_cancelled_recording_is_not_decoded_to_its_end(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[float] = []

    def cancel_after_the_third(
        tx: Session, work: SessionWork, *, attempt: int, share: float
    ) -> bool:
        told.append(share)
        if len(told) == 3:
            session_queries.cancel_session(tx, work.session_id)
        return note(tx, work, attempt=attempt, share=share)

    note = session_queries.note_share
    monkeypatch.setattr(session_queries, "note_share", cancel_after_the_third)
    monkeypatch.setattr(progress, "EVERY_S", 0.0)
    session_id = add(runtime, recordings.encode(recordings.demo()))
    assert run_to_the_end(runtime, session_id).state == "cancelled"
    assert len(told) == 3
    assert set(runtime.blobs.keys("sessions/")) == {recording_key(session_id)}


def test_the_work_goes_on_where_progress_cannot_be_told(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(tx: Session, *_: object, **__: object) -> bool:
        return bool(tx.execute(text("SELECT pg_terminate_backend(pg_backend_pid())")))

    monkeypatch.setattr(session_queries, "note_share", away)
    session_id = add(runtime, recordings.encode(recordings.demo()))
    assert run_to_the_end(runtime, session_id).state == "completed"
