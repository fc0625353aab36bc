"""Long work lets short work pass between its pieces, and ends as if it had not."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
from dramatiq.brokers.stub import StubBroker
from sqlalchemy import text
from sqlalchemy.orm import Session
from structlog.testing import capture_logs

from actors.audio import split
from actors.execution import failures, lease, turns
from actors.execution.lease import Lease
from actors.execution.runtime import Runtime
from actors.messaging.messages import Nudge, ProcessAudioFile, SplitRecording
from actors.recovery import Recovery
from db.queries import session_queries
from db.settings import Settings
from db.tables.sessions import AudioSession
from tests.support import recordings
from tests.support.cluster import eventually
from tests.support.pipeline import add, handle, session, work_of

pytestmark = pytest.mark.integration

#: Longer than a minute, at a rate that is resampled.
LONG = recordings.encode(recordings.long(1.5), container="WAV", subtype="PCM_16")
SHORT = recordings.encode(recordings.demo())
#: Lanes in the order in which they are served.
LANES = sorted(uuid.uuid4() for _ in range(3))
PRODUCTS = ("pcm_key", "levels_key", "spectrogram_key")
COLUMNS = ("duration_s", "missing_s", "holes", "totals", "n_samples", "grid_lead", "spans_total")


@pytest.fixture
def giving(memory_settings: Settings, memory: StubBroker) -> Iterator[Runtime]:
    """A runtime as that of a worker, in which a short recording has one claim."""
    made = Runtime(replace(memory_settings, one_claim_s=60.0), memory)
    made.turns.take_due = Recovery(made).take_short
    made.turns.find_long = partial(split.find_waiting, made)
    made.turns.handle = lambda nudge: handle(made, nudge)
    yield made
    made.turns.stop()
    made.turns.join()
    made.close()


def checked(runtime: Runtime, **values: object) -> uuid.UUID:
    """Add a long recording that is ready to be split."""
    session_id = add(runtime, LONG, **values)
    handle(runtime, ProcessAudioFile(session_id=session_id))
    assert session(runtime, session_id).state == "splitting"
    return session_id


def receive(runtime: Runtime, session_id: uuid.UUID) -> None:
    """Split a recording as the thread of a message does."""
    with runtime.turns.taken():
        handle(runtime, SplitRecording(session_id=session_id))


def waiting(runtime: Runtime, lane: uuid.UUID) -> uuid.UUID:
    """Add a long recording of a lane that has waited to be split for longer than for a worker."""
    session_id = checked(runtime)
    with runtime.store.transaction() as tx:
        tx.execute(
            text(
                "UPDATE unfinished_sessions SET lane = :lane, due_at = now() - interval '1 min' "
                "WHERE session_id = :id"
            ),
            {"lane": lane, "id": session_id},
        )
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
        receive(giving, long)
    ended = [line["session_id"] for line in logs if line.get("result") == "done"]
    assert ended[-1] == str(long)
    assert {session(giving, each).state for each in others} == {"completed"}
    done = session(giving, long)
    assert done.state == "detecting"
    assert products(giving, done) == expected


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
        receive(runtime, long)
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
    receive(giving, long)
    assert session(giving, other).state == "queued"


def join(runtime: Runtime) -> None:
    """Wait for the runs that began in turns."""
    eventually(lambda: not runtime.turns.open_sessions(), what="the end of the open runs")


def splits(logs: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the lines of runs that split a recording. Its spans are scored in turns of others."""
    return [line for line in logs if line.get("actor") == SplitRecording.actor]


class Pieces:
    """The order in which the runs of a process work: which session, at each of its pieces."""

    def __init__(self, runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sessions: list[uuid.UUID] = []
        #: The most sessions that were open at a time.
        self.most_open = 0
        give = runtime.turns.give

        def noted(lease: Lease) -> None:
            self.sessions.append(lease.names["session_id"])
            self.most_open = max(self.most_open, len(runtime.turns.open_sessions()))
            give(lease)

        monkeypatch.setattr(runtime.turns, "give", noted)

    def changes(self) -> int:
        """Return how often another session worked than before."""
        return sum(one != other for one, other in pairwise(self.sessions))


def test_long_recordings_of_two_lanes_are_split_piece_by_piece(
    giving: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = checked(giving)
    handle(giving, SplitRecording(session_id=undisturbed))
    expected = products(giving, session(giving, undisturbed))

    # A turn after every piece, however long it takes.
    monkeypatch.setattr(turns, "TURN_S", 0.0)
    pieces = Pieces(giving, monkeypatch)
    both = [waiting(giving, uuid.uuid4()) for _ in range(2)]
    with capture_logs() as logs:
        receive(giving, both[0])
        join(giving)
    # Neither waits for the end of the other.
    first, last = ([pieces.sessions.index(each) for each in both], len(pieces.sessions))
    ends = [last - pieces.sessions[::-1].index(each) for each in both]
    assert max(first) < min(ends)
    assert pieces.changes() > len(pieces.sessions) / 4
    for each in both:
        assert products(giving, session(giving, each)) == expected
    assert [line["result"] for line in splits(logs)] == ["done"] * 2


def test_one_lane_has_one_open_run(giving: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "TURN_S", 0.01)
    pieces, lane = Pieces(giving, monkeypatch), uuid.uuid4()
    both = [waiting(giving, lane) for _ in range(2)]
    receive(giving, both[0])
    join(giving)
    assert set(pieces.sessions) == {both[0]}
    assert session(giving, both[1]).state == "splitting"


def test_few_runs_are_open_at_a_time_and_the_others_follow(
    giving: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "TURN_S", 0.01)
    pieces = Pieces(giving, monkeypatch)
    many = [waiting(giving, uuid.uuid4()) for _ in range(turns.MOST_BESIDE + 3)]
    with capture_logs() as logs:
        while any(session(giving, each).state == "splitting" for each in many):
            receive(giving, many[0])
            join(giving)
    assert pieces.most_open == turns.MOST_BESIDE + 1
    assert [line["result"] for line in splits(logs)] == ["done"] * len(many)


def test_a_message_begins_the_recording_of_a_lane_without_an_open_run(
    giving: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "TURN_S", 0.01)
    open_, same, other = (waiting(giving, LANES[index]) for index in (1, 1, 0))
    begun: list[uuid.UUID] = []

    def let_next_be_second() -> None:
        with giving.store.transaction() as tx:
            tx.execute(text("UPDATE turns SET lane = :lane"), {"lane": LANES[0]})

    def take_due() -> list[Nudge]:
        # As a worker with two threads, the other of which takes a message.
        if not begun:
            begun.extend(giving.turns.open_sessions())
            let_next_be_second()
            with ThreadPoolExecutor(1) as pool:
                pool.submit(receive, giving, same).result()
        return []

    giving.turns.among(2)
    giving.turns.take_due = take_due
    let_next_be_second()
    receive(giving, open_)
    assert begun == [open_]
    assert session(giving, other).state == "detecting"
    assert session(giving, same).state == "splitting"


def take_away(tx: Session, session_id: uuid.UUID) -> None:
    """Claim a session for another worker."""
    taken = "UPDATE unfinished_sessions SET attempt = attempt + 1 WHERE session_id = :id"
    tx.execute(text(taken), {"id": session_id})


def fail(_tx: Session, session_id: uuid.UUID) -> None:
    raise ValueError(session_id)


@pytest.mark.parametrize(
    ("happens", "result"),
    [
        (session_queries.cancel_session, "cancelled"),
        (take_away, "superseded"),
        (fail, "failed"),
    ],
)
def test_a_run_that_ends_early_ends_alone(
    giving: Runtime,
    monkeypatch: pytest.MonkeyPatch,
    happens: Callable[[Session, uuid.UUID], object],
    result: str,
) -> None:
    monkeypatch.setattr(turns, "TURN_S", 0.01)
    monkeypatch.setattr(lease, "LOOK_S", 0.01)
    long, other = (waiting(giving, lane) for lane in LANES[:2])
    give, has_happened = giving.turns.give, threading.Event()

    def noted(lease: Lease) -> None:
        if lease.names["session_id"] == other and not has_happened.is_set():
            has_happened.set()
            with giving.store.transaction() as tx:
                happens(tx, other)
        give(lease)

    monkeypatch.setattr(giving.turns, "give", noted)
    with capture_logs() as logs:
        receive(giving, long)
        join(giving)
    ended = {line["session_id"]: line["result"] for line in splits(logs)}
    assert ended == {str(long): "done", str(other): result}


def test_a_process_that_stops_gives_back_what_began_in_turns(
    giving: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "TURN_S", 0.01)
    long, other = (waiting(giving, lane) for lane in LANES[:2])
    give = giving.turns.give

    def noted(lease: Lease) -> None:
        if lease.names["session_id"] == other:
            giving.turns.stop()
        give(lease)

    monkeypatch.setattr(giving.turns, "give", noted)
    receive(giving, long)
    giving.turns.join()
    assert session(giving, long).state == "detecting"
    assert session(giving, other).state == "splitting"
    assert work_of(giving, other).last_error == "the worker was stopped"
    assert not giving.turns.open_sessions()


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
