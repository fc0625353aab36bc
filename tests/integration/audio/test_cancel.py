"""Useless work stops: cancelled, claimed by another worker, or past its deadline."""

from __future__ import annotations

import ctypes
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import dramatiq
import pytest
from dramatiq.brokers.stub import StubBroker
from dramatiq.middleware import TimeLimitExceeded
from sqlalchemy import text
from structlog.testing import capture_logs

from actors import worker
from actors.execution import runner, watchdog
from actors.execution.failures import judge
from actors.execution.lease import Lease
from actors.execution.runner import Result, Task
from actors.execution.runtime import Runtime
from actors.messaging import kinds, messages
from actors.messaging.messages import (
    DetectSpan,
    ProcessAudioFile,
    SplitRecording,
    TrainNoiseClassifier,
)
from db.blobs.keys import training_prefix
from db.queries import model_queries, session_queries, span_queries
from db.queries.model_queries import NewTrainingClipRow
from db.queries.stage_results import DetectDone
from db.queue import claims
from db.queue.claims import SessionWork
from db.settings import Settings
from tests.support import labelled, recordings
from tests.support.cluster import eventually
from tests.support.pipeline import add, handle, session, span, split

pytestmark = pytest.mark.integration

#: A check every second, the block in progress, and a busy machine.
NOTICED_S = 3.0


def run_span(runtime: Runtime, session_id: uuid.UUID, perform: Callable[[Lease], Result]) -> None:
    """Run a custom task on the first span of a session."""
    work = SessionWork(session_id=session_id, span_index=0, state="pending")

    def give_up(tx: Any, attempt: int, problem: Any) -> Any:
        values = DetectDone(state="failed", last_error=problem["detail"])
        return span_queries.finish_span(tx, work, attempt=attempt, values=values)

    runner.run(
        runtime,
        DetectSpan(session_id=session_id, span_index=0),
        partial(claims.this, work),
        lambda work: Task(name="detect", work=work, perform=perform, give_up=give_up),
    )


def until_told(lease: Lease) -> Result:
    """Work forever, checking the lease."""
    while True:
        lease.check()
        time.sleep(0.01)


@contextmanager
def with_settings(settings: Settings, memory: StubBroker, **changed: float) -> Iterator[Runtime]:
    """A worker with other settings on the same database and blobs."""
    runtime = Runtime(replace(settings, **changed), memory)  # type: ignore[arg-type]
    yield runtime
    runtime.close()


@contextmanager
def background(work: Callable[[], None]) -> Iterator[threading.Thread]:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    yield thread
    thread.join(60)
    assert not thread.is_alive()


def cancel(runtime: Runtime, session_id: uuid.UUID) -> None:
    with runtime.store.transaction() as tx:
        assert session_queries.cancel_session(tx, session_id)


def runs(logs: Any) -> list[Any]:
    return [each for each in logs if each["event"] == "actor_run"]


def test_a_cancel_stops_the_splitting_of_a_long_recording(runtime: Runtime, tmp_path: Path) -> None:
    content = recordings.encode(recordings.long(30), container="WAV", subtype="PCM_16")
    session_id = add(runtime, content)
    handle(runtime, ProcessAudioFile(session_id=session_id))
    folder = tmp_path / "blobs" / "sessions" / str(session_id)
    with (
        capture_logs() as logs,
        background(lambda: handle(runtime, SplitRecording(session_id=session_id))) as splitting,
    ):
        eventually(lambda: list(folder.glob("pcm*-1*")), what="the first decoded audio")
        cancel(runtime, session_id)
        cancelled_at = time.monotonic()
        splitting.join(30)
        took_s = time.monotonic() - cancelled_at
    assert took_s < NOTICED_S
    assert [path.name for path in folder.iterdir()] == ["recording"]
    [line] = runs(logs)
    assert (line["actor"], line["result"]) == ("split_recording", "cancelled")
    ended = session(runtime, session_id)
    assert (ended.state, ended.spans_total, ended.pcm_key) == ("cancelled", 0, None)


def test_a_cancel_stops_the_span_that_runs_and_no_further_one_is_run(runtime: Runtime) -> None:
    session_id = split(runtime, recordings.encode(recordings.long(2.5)))
    with (
        capture_logs() as logs,
        background(lambda: run_span(runtime, session_id, until_told)) as detecting,
    ):
        eventually(lambda: span(runtime, session_id, 0).attempt, what="the claim")
        cancel(runtime, session_id)
        cancelled_at = time.monotonic()
        detecting.join(30)
        assert time.monotonic() - cancelled_at < NOTICED_S
        for index in range(3):
            handle(runtime, DetectSpan(session_id=session_id, span_index=index))
    assert [line["result"] for line in runs(logs)] == ["cancelled"] + 3 * ["nothing_to_do"]
    assert [span(runtime, session_id, index).attempt for index in range(3)] == [1, 0, 0]
    with runtime.store.transaction() as tx:
        recorded = tx.execute(
            text("SELECT result FROM processing_metrics WHERE step = 'detect'")
        ).scalars()
        assert list(recorded) == ["cancelled"]


def test_work_whose_claim_went_to_another_stops(runtime: Runtime) -> None:
    session_id = split(runtime, recordings.encode(recordings.demo()))
    with (
        capture_logs() as logs,
        background(lambda: run_span(runtime, session_id, until_told)),
    ):
        eventually(lambda: span(runtime, session_id, 0).attempt, what="the claim")
        with runtime.store.transaction() as tx:
            tx.execute(text("UPDATE session_spans SET attempt = 2"))
    assert [line["result"] for line in runs(logs)] == ["superseded"]
    assert span(runtime, session_id, 0).state == "pending"


def test_a_lease_is_renewed_while_the_work_goes_on(runtime: Runtime, memory: StubBroker) -> None:
    session_id = split(runtime, recordings.encode(recordings.demo()))
    seen = []

    def perform(lease: Lease) -> Result:
        for _ in range(4):
            lease.check()
            with runtime.store.transaction() as tx:
                due_in = text(
                    "SELECT extract(epoch FROM due_at - clock_timestamp()) FROM session_spans"
                )
                seen.append(float(tx.execute(due_in).scalar_one()))
            time.sleep(0.4)
        return Result(lambda _db, _attempt: [])

    with with_settings(runtime.settings, memory, lease_s=0.6) as short:
        run_span(short, session_id, perform)
    assert min(seen) > 0


def test_past_its_deadline_a_step_stops_and_keeps_the_reason(
    runtime: Runtime, memory: StubBroker
) -> None:
    session_id = split(runtime, recordings.encode(recordings.demo()))
    with (
        with_settings(runtime.settings, memory, deadline_s=0.3) as short,
        capture_logs() as logs,
    ):
        run_span(short, session_id, until_told)
    assert [line["result"] for line in runs(logs)] == ["retried"]
    waiting = span(runtime, session_id, 0)
    assert "0.3 s" in str(waiting.last_error)
    assert waiting.due_at > waiting.nudged_at


def test_a_training_asks_at_each_step_of_its_bar(runtime: Runtime, memory: StubBroker) -> None:
    manifest, files = labelled.clips()
    job_id = uuid.uuid4()
    rows: list[NewTrainingClipRow] = []
    for line in manifest.splitlines()[1:]:
        name, label = line.split(",")
        key = f"{training_prefix(job_id)}{len(rows)}"
        runtime.blobs.put(key, files[name])
        rows.append({"file_name": name, "label": label, "source": name, "blob_key": key})
    with runtime.store.transaction() as tx:
        model_queries.add_training(tx, rows, id=job_id, name="hums", seed=0)
    with (
        with_settings(runtime.settings, memory, deadline_s=0.1) as short,
        capture_logs() as logs,
    ):
        handle(short, TrainNoiseClassifier(job_id=job_id))
    assert [line["result"] for line in runs(logs)] == ["retried"]
    with runtime.store.transaction() as tx:
        job = model_queries.get_training(tx, job_id)
    assert job is not None
    assert (job.state, job.percent < 100) == ("pending", True)
    assert "0.1 s" in str(job.last_error)


def test_python_that_asks_nobody_is_interrupted(
    runtime: Runtime, memory: StubBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dramatiq's time limit raises an exception that ``except Exception`` does not catch."""
    monkeypatch.setattr(watchdog, "GRACE_S", 6.0)
    session_id = split(runtime, recordings.encode(recordings.demo()))

    def busy(_hold: Lease) -> Result:
        while True:
            time.sleep(0.01)

    def stand_in(runtime: Runtime, nudge: DetectSpan) -> None:
        run_span(runtime, nudge.session_id, busy)

    handlers: dict[type[messages.Nudge], Any] = worker.HANDLERS | {DetectSpan: stand_in}
    monkeypatch.setattr(worker, "HANDLERS", handlers)
    prefix = runtime.settings.queue_prefix
    short = Runtime(replace(runtime.settings, deadline_s=0.3), memory)
    # The worker closes it when it ends.
    worker.declare(memory, short)
    memory.emit_after("process_boot")
    working = dramatiq.Worker(memory, worker_threads=1, worker_timeout=50)
    messages.send(DetectSpan(session_id=session_id, span_index=0), broker=memory, prefix=prefix)
    with capture_logs() as logs:
        working.start()
        memory.join(messages.queue_name(DetectSpan, prefix=prefix), timeout=30_000)
        working.stop()
    # Splitting sent a message too.
    results = [line["result"] for line in runs(logs) if line["result"] != "nothing_to_do"]
    assert results == ["retried"]
    assert span(runtime, session_id, 0).last_error == judge(TimeLimitExceeded()).reason


def test_where_the_process_is_shared_a_stuck_step_is_told_of_and_given_to_another(
    runtime: Runtime, memory: StubBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watchdog, "GRACE_S", 0.2)
    session_id = split(runtime, recordings.encode(recordings.demo()))

    def stuck(_hold: Lease) -> Result:
        # Waits in the C library, which Python's exceptions do not reach.
        ctypes.CDLL(None).usleep(1_500_000)
        return Result(lambda tx, attempt: None)

    with (
        with_settings(runtime.settings, memory, deadline_s=0.2) as short,
        capture_logs() as logs,
    ):
        run_span(short, session_id, stuck)
    [line] = runs(logs)
    assert (line["result"], line["log_level"], line["leaves"]) == ("stuck", "critical", False)
    waiting = span(runtime, session_id, 0)
    assert waiting.state == "pending"
    assert waiting.last_error == line["error"]
    assert "0.2 s" in str(waiting.last_error)


def test_deadlines_stay_below_the_patience_of_rabbitmq(memory_settings: Settings) -> None:
    nudges = [kind.message for kind in kinds.KINDS]
    for nudge in nudges:
        deadline_s = watchdog.deadline_s(nudge, memory_settings)
        assert deadline_s < watchdog.limit_s(nudge, memory_settings) < deadline_s + watchdog.GRACE_S
        assert deadline_s + 2 * watchdog.GRACE_S < 30 * 60 - 60
    shorter = replace(memory_settings, deadline_s=10.0)
    assert {watchdog.deadline_s(nudge, shorter) for nudge in nudges} == {10.0}
