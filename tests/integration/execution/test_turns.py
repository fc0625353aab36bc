"""Long work lets short work pass between its pieces, and ends as if it had not."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from dataclasses import replace

import pytest
from dramatiq.brokers.stub import StubBroker
from sqlalchemy import text
from structlog.testing import capture_logs

from actors.execution import failures, turns
from actors.execution.runtime import Runtime
from actors.messaging.messages import Nudge, ProcessAudioFile, SplitRecording
from actors.recovery import Recovery
from db.settings import Settings
from db.tables.sessions import AudioSession
from tests.support import recordings
from tests.support.pipeline import add, handle, session

pytestmark = pytest.mark.integration

#: Longer than a minute, at a rate that is resampled.
LONG = recordings.encode(recordings.long(1.5), container="WAV", subtype="PCM_16")
SHORT = recordings.encode(recordings.demo())
PRODUCTS = ("pcm_key", "levels_key", "spectrogram_key")
COLUMNS = ("duration_s", "missing_s", "holes", "totals", "n_samples", "grid_lead", "spans_total")


@pytest.fixture
def giving(memory_settings: Settings, memory: StubBroker) -> Iterator[Runtime]:
    """A runtime as that of a worker, in which a short recording has one claim."""
    made = Runtime(replace(memory_settings, one_claim_s=60.0), memory)
    made.turns.take_due = Recovery(made).take_short
    made.turns.handle = lambda nudge: handle(made, nudge)
    yield made
    made.close()


def checked(runtime: Runtime, **values: object) -> uuid.UUID:
    """Add a long recording that is ready to be split."""
    session_id = add(runtime, LONG, **values)
    handle(runtime, ProcessAudioFile(session_id=session_id))
    assert session(runtime, session_id).state == "splitting"
    return session_id


def products(runtime: Runtime, of: AudioSession) -> list[object]:
    """Return all that a split has made, byte for byte."""
    blobs = [runtime.blobs.get(getattr(of, name)) for name in PRODUCTS]
    return [*blobs, *(getattr(of, name) for name in COLUMNS)]


def test_others_pass_between_the_pieces_and_the_answer_is_the_same(
    giving: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = checked(giving)
    handle(giving, SplitRecording(session_id=undisturbed))
    expected = products(giving, session(giving, undisturbed))

    monkeypatch.setattr(turns, "TURN_S", 0.01)
    long = checked(giving)
    others = [add(giving, SHORT) for _ in range(2)]
    with capture_logs() as logs:
        handle(giving, SplitRecording(session_id=long))
    ended = [line["session_id"] for line in logs if line.get("result") == "done"]
    assert ended[-1] == str(long)
    assert {session(giving, each).state for each in others} == {"completed"}
    split = session(giving, long)
    assert split.state == "detecting"
    assert products(giving, split) == expected


def test_neither_the_deadline_nor_the_duration_counts_the_turns_of_others(
    memory_settings: Settings, memory: StubBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "TURN_S", 0.01)
    runtime = Runtime(replace(memory_settings, deadline_s=4.0, lease_s=1.0), memory)
    long = checked(runtime)
    given: list[float] = []

    def take_due() -> list[Nudge]:
        given.append(time.monotonic())
        return [SplitRecording(session_id=long)] if len(given) == 1 else []

    def work(_nudge: Nudge) -> None:
        # Longer than the deadline and than several leases.
        time.sleep(6.0)

    runtime.turns.take_due, runtime.turns.handle = take_due, work
    with capture_logs() as logs:
        handle(runtime, SplitRecording(session_id=long))
    runtime.close()
    assert len(given) > 1
    [line] = [each for each in logs if each["event"] == "actor_run"]
    assert line["result"] == "done"
    assert line["duration_s"] < 4.0
    assert session(runtime, long).state == "detecting"


def test_a_process_that_stops_begins_nothing_more(
    giving: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "TURN_S", 0.01)
    long, other = checked(giving), add(giving, SHORT)
    giving.turns.stop()
    handle(giving, SplitRecording(session_id=long))
    assert session(giving, other).state == "queued"


def test_a_second_deadline_of_the_same_step_is_final(
    memory_settings: Settings, memory: StubBroker
) -> None:
    runtime = Runtime(replace(memory_settings, deadline_s=0.05), memory)
    session_id = add(runtime, LONG)
    with runtime.store.transaction() as tx:
        tx.execute(text("UPDATE audio_sessions SET n_channels = 1, rate_hz = 16000"))
        tx.execute(text("UPDATE unfinished_sessions SET state = 'splitting'"))
        tx.execute(text("UPDATE audio_sessions SET state = 'splitting'"))
    for state in ("splitting", "failed"):
        handle(runtime, SplitRecording(session_id=session_id))
        assert session(runtime, session_id).state == state
        with runtime.store.transaction() as tx:
            tx.execute(text("UPDATE unfinished_sessions SET due_at = now()"))
    runtime.close()
    problem = session(runtime, session_id).problem
    assert problem is not None
    assert problem["code"] == failures.GIVEN_UP
    assert "after 2 attempts" in problem["detail"]
