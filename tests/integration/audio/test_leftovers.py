"""Nothing remains in the blob store of an ended session except what is still requested."""

from __future__ import annotations

import uuid
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import insert, text

from actors.execution import watchdog
from actors.execution.runtime import Runtime
from actors.recovery import Recovery
from db.blobs.keys import product_key, recording_key
from db.queries import leftover_queries, session_queries
from db.tables.unfinished import SessionLeftovers
from tests.support import recordings
from tests.support.pipeline import add, put_into, run_to_the_end

pytestmark = pytest.mark.integration


def leave_behind(runtime: Runtime, session_id: uuid.UUID) -> None:
    """Leave the products of a worker that was killed while writing or returned too late."""
    for attempt in (1, 2):
        runtime.blobs.put(product_key(session_id, "pcm", attempt=attempt), b"decoded audio")


def ended(runtime: Runtime, session_id: uuid.UUID, state: str, *, ago_s: float) -> None:
    with runtime.store.transaction() as tx:
        finished_at = session_queries.clock(tx) - timedelta(seconds=ago_s)
        put_into(tx, session_id, state, finished_at=finished_at)
        left = insert(SessionLeftovers).values(session_id=session_id, finished_at=finished_at)
        tx.execute(left)


def is_tidied(runtime: Runtime, session_id: uuid.UUID) -> bool:
    with runtime.store.transaction() as tx:
        return tx.get(SessionLeftovers, session_id) is None


@pytest.mark.parametrize("state", ["failed", "cancelled", "partial"])
def test_every_ended_session_is_tidied_once_nobody_can_be_at_work_for_it(
    runtime: Runtime, state: str
) -> None:
    session_id = add(runtime, b"x")
    leave_behind(runtime, session_id)
    silent_s = watchdog.silent_after_s(runtime.settings)
    ended(runtime, session_id, state, ago_s=silent_s - 60)
    Recovery(runtime).round()
    assert len(runtime.blobs.keys("sessions/")) == 3
    assert not is_tidied(runtime, session_id)

    ended(runtime, session_id, state, ago_s=silent_s + 1)
    Recovery(runtime).round()
    assert runtime.blobs.keys("sessions/") == [recording_key(session_id)]
    assert is_tidied(runtime, session_id)


def test_the_work_of_an_unfinished_session_stays(runtime: Runtime) -> None:
    session_id = add(runtime, b"x")
    leave_behind(runtime, session_id)
    Recovery(runtime).round()
    assert len(runtime.blobs.keys("sessions/")) == 3


def test_a_finished_session_is_tidied_at_once_and_once_more_behind_a_late_worker(
    runtime: Runtime,
) -> None:
    session_id = add(runtime, recordings.encode(recordings.demo()), bands="third_octave")
    done = run_to_the_end(runtime, session_id)
    assert done.bands_key in runtime.blobs.keys("sessions/")
    kept = {
        recording_key(session_id),
        done.levels_key,
        done.levels_answer_key,
        done.spectrogram_key,
    }
    Recovery(runtime).round()
    assert set(runtime.blobs.keys("sessions/")) == kept
    assert not is_tidied(runtime, session_id)
    leave_behind(runtime, session_id)
    ended(runtime, session_id, "completed", ago_s=watchdog.silent_after_s(runtime.settings) + 1)
    Recovery(runtime).round()
    assert set(runtime.blobs.keys("sessions/")) == kept
    assert is_tidied(runtime, session_id)


def test_a_blob_store_that_is_away_is_tidied_by_a_later_round(
    runtime: Runtime, tmp_path: Path
) -> None:
    session_id = add(runtime, b"x")
    leave_behind(runtime, session_id)
    ended(runtime, session_id, "failed", ago_s=watchdog.silent_after_s(runtime.settings) + 1)
    away = (tmp_path / "blobs").rename(tmp_path / "away")
    with pytest.raises(OSError, match="blob store"):
        Recovery(runtime).round()
    away.rename(tmp_path / "blobs")
    assert not is_tidied(runtime, session_id)
    Recovery(runtime).round()
    assert runtime.blobs.keys("sessions/") == [recording_key(session_id)]


def test_recovery_asks_by_index(runtime: Runtime) -> None:
    """A long history of finished sessions costs a recovery round nothing."""
    with runtime.store.transaction() as tx:
        tx.execute(
            text(
                "INSERT INTO audio_sessions (id, file_name, recording_key, size_bytes, state,"
                " privacy, audio_removed_at)"
                " SELECT gen_random_uuid(), 'a', 'b', 1, 'completed',"
                " CASE WHEN n % 3 = 0 THEN 'mute' ELSE 'keep' END,"
                " CASE WHEN n % 3 = 0 THEN now() END FROM generate_series(1, 20000) AS n"
            )
        )
        tx.execute(text("ANALYZE audio_sessions, session_leftovers"))
        seen = tx.execute(
            text("SELECT seq_scan FROM pg_stat_xact_user_tables WHERE relname = 'audio_sessions'")
        ).scalar_one()
        assert leftover_queries.sessions_with_leftovers(tx, silent_after_s=60, limit=200) == []
        then = tx.execute(
            text("SELECT seq_scan FROM pg_stat_xact_user_tables WHERE relname = 'audio_sessions'")
        ).scalar_one()
    assert then == seen
