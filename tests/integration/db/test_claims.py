"""One worker at a time, one result a span, one end a session: under races."""

from __future__ import annotations

import random
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from actors.messaging.messages import DetectSpan, ProcessAudioFile, TrainNoiseClassifier
from actors.recovery import take_stalled
from db.queries import model_queries, retention_queries, session_queries, span_queries
from db.queries.model_queries import JobWork, NewTrainingClipRow
from db.queue import claims
from db.queue.claims import SessionWork
from db.store import Store
from db.tables.training import TrainingJob
from db.tables.unfinished import SessionLeftovers, UnfinishedSession
from tests.support.cluster import eventually
from tests.support.pipeline import put_into

pytestmark = pytest.mark.integration

THREADS = 8


def make_session(store: Store, *, state: str = "queued", spans: int = 0) -> uuid.UUID:
    with store.transaction() as tx:
        return add_session(tx, state=state, spans=spans)


def add_session(tx: Session, *, state: str, spans: int) -> uuid.UUID:
    session_id = uuid.uuid4()
    session_queries.add_session(
        tx,
        id=session_id,
        file_name="a.wav",
        size_bytes=1,
        recording_key="k",
    )
    put_into(tx, session_id, state, spans_total=spans)
    if spans:
        tx.add_all(
            span_queries.new_spans(session_id, [(i, i * 10, i * 10 + 10) for i in range(spans)])
        )
    return session_id


def claim(store: Store, work: SessionWork, lease_s: float = 30.0) -> int | None:
    """Claim a row by its name; return the number of the attempt."""
    with store.transaction() as tx:
        claimed = claims.this(work, tx, lease_s=lease_s)
    return claimed.attempt if claimed else None


def test_of_many_workers_one_claims(store: Store) -> None:
    work = SessionWork(session_id=make_session(store), state="queued")
    start = threading.Barrier(8)

    def race(_: int) -> int | None:
        start.wait()
        return claim(store, work)

    with ThreadPoolExecutor(8) as pool:
        attempts = list(pool.map(race, range(8)))
    assert sorted(attempts, key=str) == [1] + [None] * 7


def test_a_lease_that_ended_is_given_to_the_next_and_fences_off_the_first(store: Store) -> None:
    work = SessionWork(session_id=make_session(store), state="queued")
    assert claim(store, work, lease_s=0) == 1
    assert claim(store, work) == 2
    with store.transaction() as tx:
        assert not claims.advance(tx, work, attempt=1, to="splitting")
        assert not claims.extend_lease(tx, work, attempt=1, lease_s=30)
        assert claims.extend_lease(tx, work, attempt=2, lease_s=30)
        assert claims.advance(tx, work, attempt=2, to="splitting")
    assert claim(store, work) is None


def test_a_late_claim_of_an_earlier_stage_cannot_write_in_a_later_one(store: Store) -> None:
    session_id = make_session(store)
    first = SessionWork(session_id=session_id, state="queued")
    assert claim(store, first) == 1
    with store.transaction() as tx:
        assert claims.advance(tx, first, attempt=1, to="splitting")
    assert claim(store, SessionWork(session_id=session_id, state="splitting")) == 1
    with store.transaction() as tx:
        assert not claims.advance(tx, first, attempt=1, to="failed")


def test_a_failure_that_may_pass_is_due_later_with_its_reason(store: Store) -> None:
    work = SessionWork(session_id=make_session(store), state="queued")
    assert claim(store, work) == 1
    with store.transaction() as tx:
        assert claims.retry_later(tx, work, attempt=1, delay_s=60, error="the store is away")
    assert claim(store, work) is None
    with store.transaction() as tx:
        assert claims.last_error(tx, work) == "the store is away"


def test_spans_of_a_cancelled_session_are_no_work(store: Store) -> None:
    session_id = make_session(store, state="detecting", spans=2)
    first, second = (
        SessionWork(session_id=session_id, span_index=i, state="pending") for i in (0, 1)
    )
    assert claim(store, first) == 1
    with store.transaction() as tx:
        assert session_queries.cancel_session(tx, session_id)
        assert not session_queries.cancel_session(tx, session_id)
    assert claim(store, second) is None
    with store.transaction() as tx:
        assert span_queries.finish_span(tx, first, attempt=1, values={"state": "done"}) is None


def test_the_barrier_fires_once_in_each_of_400_races_with_duplicates(store: Store) -> None:
    """Eight threads finish the spans of two sessions at once, and 15 % of the spans come twice,
    with the same claim. Each span is counted once, and one caller sees the last.
    """
    rng, waves, at_once = random.Random(11), 200, THREADS // 2
    do_not_wait_for_the_disk(store)
    n_spans = [at_once - sum(rng.random() < 0.15 for _ in range(3)) for _ in range(2 * waves)]
    with store.transaction() as tx:
        sessions = [add_session(tx, state="detecting", spans=spans) for spans in n_spans]
        tx.execute(text("UPDATE session_spans SET attempt = 1"))
    with ThreadPoolExecutor(THREADS) as pool:
        for wave in range(waves):
            together = threading.Barrier(THREADS)

            def finish(race: int, index: int, together: threading.Barrier = together) -> Any:
                span = span_of(sessions[race], index)
                together.wait(60)
                with store.transaction() as tx:
                    return race, span_queries.finish_span(
                        tx, span, attempt=1, values={"state": "done"}
                    )

            pair = (2 * wave, 2 * wave + 1)
            # Spans beyond the session's number, up to four, repeat earlier ones.
            spans = [(race, i % n_spans[race]) for race in pair for i in range(at_once)]
            ended = Counter(pool.map(finish, *zip(*rng.sample(spans, THREADS), strict=True)))
            for race in pair:
                assert ended[race, True] == 1
                assert ended[race, False] == n_spans[race] - 1
                assert ended[race, None] == at_once - n_spans[race]
    with store.transaction() as tx:
        rows = tx.execute(text("SELECT state, spans_finished = spans_total FROM audio_sessions"))
        assert set(rows) == {("aggregating", True)}


def do_not_wait_for_the_disk(store: Store) -> None:
    """Turn off synchronous commits: a few thousand then take seconds; visibility is the same."""
    with store.transaction() as tx:
        name = tx.execute(text("SELECT current_database()")).scalar_one()
        tx.execute(text(f"ALTER DATABASE {name} SET synchronous_commit = off"))
    store.engine.dispose()


def test_a_zombie_that_finishes_its_span_at_last_is_not_counted(store: Store) -> None:
    """Its lease ended and another worker has the span: whichever finishes first, one is counted."""
    for zombie_first in (True, False):
        session_id = make_session(store, state="detecting", spans=2)
        span = span_of(session_id, 0)
        assert claim(store, span, lease_s=0) == 1
        assert claim(store, span) == 2
        ends = []
        for attempt in (1, 2) if zombie_first else (2, 1):
            with store.transaction() as tx:
                ends.append(
                    span_queries.finish_span(tx, span, attempt=attempt, values={"state": "done"})
                )
        assert ends == ([None, False] if zombie_first else [False, None])
        assert state_of(store, session_id) == ("detecting", 1)


def span_of(session_id: uuid.UUID, index: int) -> SessionWork:
    return SessionWork(session_id=session_id, span_index=index, state="pending")


def state_of(store: Store, session_id: uuid.UUID) -> tuple[str, int]:
    with store.transaction() as tx:
        found = tx.get(UnfinishedSession, session_id)
        assert found is not None
        return found.state, found.spans_finished


def test_recovery_finds_what_is_due_and_quiet_and_nothing_else(store: Store) -> None:
    fresh = make_session(store)
    lost = make_session(store)
    dead = make_session(store, state="detecting", spans=2)
    cancelled = make_session(store, state="cancelled")
    with store.transaction() as tx:
        for session_id in (lost, cancelled):
            tx.execute(
                text(
                    "UPDATE unfinished_sessions SET nudged_at = now() - interval '1 hour'"
                    " WHERE session_id = :id"
                ),
                {"id": session_id},
            )
    # Span 0 was claimed by a worker that died; span 1 waits for its message.
    assert claim(store, SessionWork(session_id=dead, span_index=0, state="pending"), lease_s=0) == 1
    with store.transaction() as tx:
        found = take_stalled(tx, unnudged_s=30, limit=10)
    assert found == [ProcessAudioFile(session_id=lost), DetectSpan(session_id=dead, span_index=0)]
    assert fresh != lost
    with store.transaction() as tx:
        assert take_stalled(tx, unnudged_s=30, limit=10) == []


def test_a_move_waits_for_another_change_of_its_session(store: Store) -> None:
    """The session may be put on hold in the moment in which it ends; both are kept."""
    session_id = make_session(store, state="aggregating")
    work = SessionWork(session_id=session_id, state="aggregating")
    assert claim(store, work) == 1

    def end() -> bool:
        with store.transaction() as tx:
            return claims.advance(tx, work, attempt=1, to="completed")

    with ThreadPoolExecutor(1) as pool:
        with store.transaction() as tx:
            assert retention_queries.hold_session(tx, session_id, held=True, owner=None)
            ended = pool.submit(end)
            eventually(lambda: is_waiting(store), what="a wait for the lock")
        assert ended.result(30)
    with store.transaction() as tx:
        session = session_queries.get_session(tx, session_id)
        assert session is not None
        assert (session.state, session.legal_hold) == ("completed", True)
        assert session.result is not None
        assert session.result.outcome == "completed"
        assert tx.get(UnfinishedSession, session_id) is None
        assert tx.get(SessionLeftovers, session_id) is not None


def is_waiting(store: Store) -> bool:
    with store.transaction() as tx:
        waits = "datname = current_database() AND wait_event_type = 'Lock'"
        found = tx.execute(text(f"SELECT count(*) FROM pg_stat_activity WHERE {waits}"))  # noqa: S608
        return bool(found.scalar_one())


def test_trainings_of_one_name_that_come_at_once_get_different_versions(store: Store) -> None:
    start = threading.Barrier(8)
    clip = NewTrainingClipRow(file_name="a.wav", label="x", source="a", blob_key="k")

    def add(_: int) -> int:
        start.wait()
        with store.transaction() as tx:
            job = model_queries.add_training(tx, [clip], id=uuid.uuid4(), name="hums", seed=0)
            return job.version

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(add, range(8))) == list(range(1, 9))


def test_of_many_workers_one_claims_a_training(store: Store) -> None:
    with store.transaction() as tx:
        clip = NewTrainingClipRow(file_name="a.wav", label="x", source="a", blob_key="k")
        job = model_queries.add_training(tx, [clip], id=uuid.uuid4(), name="hums", seed=0)
    work = JobWork(job=TrainingJob, id=job.id)
    start = threading.Barrier(8)

    def race(_: int) -> int | None:
        start.wait()
        with store.transaction() as tx:
            claimed = claims.this(work, tx, lease_s=30.0)
            return claimed.attempt if claimed else None

    with ThreadPoolExecutor(8) as pool:
        attempts = list(pool.map(race, range(8)))
    assert sorted(attempts, key=str) == [1] + [None] * 7
    with store.transaction() as tx:
        assert take_stalled(tx, unnudged_s=0, limit=10) == []
        tx.execute(text("UPDATE training_jobs SET due_at = now()"))
    with store.transaction() as tx:
        assert take_stalled(tx, unnudged_s=0, limit=10) == [TrainNoiseClassifier(job_id=job.id)]


def test_one_recovery_at_a_time(store: Store) -> None:
    with store.transaction() as first, store.transaction() as second:
        assert session_queries.try_recovery_lock(first)
        assert not session_queries.try_recovery_lock(second)


def test_a_share_grows_and_a_zombie_cannot_write_it(store: Store) -> None:
    """A second attempt writes nothing until it passes the first; the first is fenced off."""
    session_id = make_session(store, state="splitting")
    work = SessionWork(session_id=session_id, state="splitting")

    def note(attempt: int, share: float) -> bool:
        with store.transaction() as tx:
            return session_queries.note_share(tx, work, attempt=attempt, share=share)

    def row() -> UnfinishedSession:
        with store.transaction() as tx:
            found = tx.get(UnfinishedSession, session_id)
        assert found is not None
        return found

    assert claim(store, work, lease_s=0) == 1
    since = row().stage_since
    assert since is not None
    assert note(1, 0.4)
    told_at = row().stage_told_at
    assert claim(store, work) == 2
    assert not note(1, 0.9)
    assert note(2, 0.1)
    assert (row().stage_share, row().stage_told_at, row().stage_since) == (0.4, told_at, since)
    assert note(2, 0.5)
    assert row().stage_share == 0.5
    assert row().stage_told_at > told_at  # type: ignore[operator]
    with store.transaction() as tx:
        assert claims.advance(tx, work, attempt=2, to="detecting")
    assert (row().stage_share, row().stage_told_at, row().stage_since) == (0, None, None)
    assert not note(2, 0.9)


def test_spans_tell_since_when_the_session_is_heard(store: Store) -> None:
    session_id = make_session(store, state="detecting", spans=3)
    begun, told = [], []
    for index in range(3):
        work = SessionWork(session_id=session_id, span_index=index, state="pending")
        attempt = claim(store, work)
        assert attempt
        with store.transaction() as tx:
            span = span_queries.get_span(tx, session_id, index)
            assert span is not None
            begun.append(span.started_at)
            span_queries.finish_span(tx, work, attempt=attempt, values={"state": "done"})
        with store.transaction() as tx:
            found = tx.get(UnfinishedSession, session_id)
            assert found is not None
            told.append((found.stage_since, found.stage_told_at))
    assert [since for since, _ in told] == [begun[0], begun[0], None]
    assert told[1][1] > told[0][1] > begun[0]  # type: ignore[operator]
    # The last span moved the session to a stage that no worker has started yet.
    assert told[2][1] is None


def test_every_change_gives_a_session_another_version(store: Store) -> None:
    session_id = make_session(store, state="splitting")
    work = SessionWork(session_id=session_id, state="splitting")
    versions = []
    changes: tuple[Callable[[Session], object], ...] = (
        lambda tx: claims.this(work, tx, lease_s=30),
        lambda tx: session_queries.note_share(tx, work, attempt=1, share=0.5),
        lambda tx: session_queries.cancel_session(tx, session_id),
    )
    for change in changes:
        with store.transaction() as tx:
            versions.append(session_queries.session_version(tx, session_id))
        with store.transaction() as tx:
            versions.append(session_queries.session_version(tx, session_id))
            assert change(tx)
    with store.transaction() as tx:
        versions.append(session_queries.session_version(tx, session_id))
        assert session_queries.session_version(tx, uuid.uuid4()) is None
    assert versions[0::2] == [*versions[1::2], versions[-1]]
    assert len(set(versions)) == 4


def test_a_recovery_whose_process_dies_is_followed_by_another(store: Store) -> None:
    """The connection holds the lock, so Postgres frees it however the process ends."""
    with store.engine.connect() as dying:
        assert dying.execute(
            select(func.pg_try_advisory_xact_lock(session_queries.RECOVERY_LOCK))
        ).scalar()
        backend = dying.execute(text("SELECT pg_backend_pid()")).scalar_one()
        with store.transaction() as tx:
            assert not session_queries.try_recovery_lock(tx)
            tx.execute(text("SELECT pg_terminate_backend(:pid, 10000)"), {"pid": backend})
        with store.transaction() as tx:
            assert session_queries.try_recovery_lock(tx)
        dying.invalidate()


def test_leases_and_waits_are_reckoned_by_the_clock_of_the_database(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker whose clock is a day ahead neither takes others' claims nor makes lasting ones."""
    held, free = (SessionWork(session_id=make_session(store), state="queued") for _ in range(2))
    assert claim(store, held) == 1
    a_day_ahead = time.time() + 86_400
    monkeypatch.setattr(time, "time", lambda: a_day_ahead)
    assert claim(store, held) is None
    assert claim(store, free, lease_s=30) == 1
    with store.transaction() as tx:
        assert claims.extend_lease(tx, free, attempt=1, lease_s=60)
        due_in_s = tx.execute(
            text(
                "SELECT extract(epoch FROM due_at - clock_timestamp()) FROM unfinished_sessions"
                " WHERE session_id = :id"
            ),
            {"id": free.session_id},
        ).scalar_one()
    assert 0 < due_in_s <= 60
