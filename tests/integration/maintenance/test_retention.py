"""Retention removes expired sessions with everything that belongs to them, and no others."""

from __future__ import annotations

import io
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import msgspec
import numpy as np
import pytest
import soundfile
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from actors.execution.runtime import Runtime
from actors.maintenance import retention
from actors.messaging.messages import CleanUpFailedSessions, CleanUpOldSessions, Nudge
from actors.science.audio_io import clips
from db import ownership
from db.blobs.keys import OWNER, clip_key, recording_key, session_prefix
from db.queries import batch_queries, retention_queries, session_queries, span_queries
from db.queries.retention_queries import Past
from db.tables.retention import KeptClip
from db.tables.sessions import AudioSession
from tests.support import accounts, recordings
from tests.support.api import Api
from tests.support.clock import ask, clean_up_twice, findings
from tests.support.pipeline import put_into

pytestmark = pytest.mark.integration

DAY_S = 86_400.0
SECOND = recordings.RATE_HZ


def add(
    runtime: Runtime,
    *,
    state: str = "completed",
    ended_days_ago: float | None = 40,
    sent_days_ago: float = 40,
    content: bytes = b"sound",
    work: Mapping[str, Any] | None = None,
    duration_s: float | None = None,
    **values: Any,
) -> uuid.UUID:
    session_id = uuid.uuid4()
    key = recording_key(session_id)
    runtime.blobs.put(key, content)
    runtime.blobs.put(f"{session_prefix(session_id)}levels-1", b"levels")
    with runtime.store.transaction() as tx:
        session_queries.add_session(
            tx,
            id=session_id,
            user_id=accounts.TEAM,
            file_name="a.wav",
            size_bytes=len(content),
            recording_key=key,
            **values,
        )
        now = session_queries.clock(tx)
        ended_at = None if ended_days_ago is None else now - timedelta_days(ended_days_ago)
        created_at = now - timedelta_days(sent_days_ago)
        times = {"created_at": created_at, "finished_at": ended_at}
        put_into(tx, session_id, state, work=work, duration_s=duration_s, **times)
        tx.add_all(span_queries.new_spans(session_id, [(0, 0, 100)]))
    return session_id


def timedelta_days(days: float) -> timedelta:
    return timedelta(days=days)


def detect(runtime: Runtime, session_id: uuid.UUID, *events: tuple[str, float, float]) -> None:
    with runtime.store.transaction() as tx:
        session_queries.add_detections(
            tx,
            session_id,
            [
                {"noise_type": kind, "confidence": confidence, "start_s": at, "end_s": at + 0.5}
                for kind, confidence, at in events
            ],
        )


def left(runtime: Runtime) -> set[uuid.UUID]:
    with runtime.store.transaction() as tx:
        return set(tx.scalars(select(AudioSession.id)))


def result(runtime: Runtime, nudge: Nudge, **options: Any) -> dict[str, Any]:
    run = ask(runtime, nudge, **options)
    assert run.state == "completed", run.problem
    return findings(run)


def test_old_sessions_go_with_all_that_is_theirs(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "PAGE_SESSIONS", 3)
    old = [add(runtime) for _ in range(7)]
    detect(runtime, old[0], ("rain", 0.9, 0.0))
    young = add(runtime, ended_days_ago=29)
    running = add(runtime, state="detecting", ended_days_ago=None)
    found = result(runtime, CleanUpOldSessions())
    assert (found["sessions"], found["dry_run"]) == (7, False)
    assert left(runtime) == {young, running}
    keys = runtime.blobs.keys("sessions/")
    assert {key.split("/")[1] for key in keys} == {str(young), str(running)}
    assert len(keys) == 4
    with runtime.store.transaction() as tx:
        assert tx.execute(text("SELECT count(*) FROM noise_detections")).scalar_one() == 0
        assert tx.execute(text("SELECT count(*) FROM session_spans")).scalar_one() == 2
    # A repetition changes nothing.
    assert result(runtime, CleanUpOldSessions())["sessions"] == 0


def test_a_page_ends_where_its_recordings_get_long(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "PAGE_SPANS", 10)
    ages_and_spans = ((50, 12), (49, 4), (48, 6), (47, 1))
    ids = [add(runtime, ended_days_ago=days, spans_total=n) for days, n in ages_and_spans]
    pages = []
    remove = retention_queries.remove_past

    def remembered(tx: Session, past: Past, page: Sequence[uuid.UUID]) -> set[uuid.UUID]:
        pages.append(list(page))
        return remove(tx, past, page)

    monkeypatch.setattr(retention_queries, "remove_past", remembered)
    assert result(runtime, CleanUpOldSessions())["sessions"] == 4
    # A session longer than a page goes alone; the last page finds nothing.
    assert pages == [[ids[0]], [ids[1], ids[2]], [ids[3]], []]


def test_a_dry_run_counts_and_removes_nothing(runtime: Runtime) -> None:
    add(runtime, content=b"12345", duration_s=10.0)
    add(runtime, ended_days_ago=10)
    found = result(runtime, CleanUpOldSessions(), dry_run=True)
    assert {name: found[name] for name in ("sessions", "duration_s", "size_bytes", "dry_run")} == {
        "sessions": 1,
        "duration_s": 10.0,
        "size_bytes": 5,
        "dry_run": True,
    }
    assert len(left(runtime)) == 2
    assert result(runtime, CleanUpOldSessions(), dry_run=True, older_than_days=5)["sessions"] == 2


def test_a_held_session_stays_until_the_hold_is_lifted(admin: Api, runtime: Runtime) -> None:
    old, failed = add(runtime), add(runtime, state="failed")
    for each in (old, failed):
        held = admin.simulate_put(f"/v1/sessions/{each}/hold")
        assert held.json == {"session_id": str(each), "legal_hold": True}
    assert result(runtime, CleanUpOldSessions())["sessions"] == 0
    assert result(runtime, CleanUpFailedSessions())["sessions"] == 0
    assert left(runtime) == {old, failed}
    assert admin.simulate_delete(f"/v1/sessions/{old}/hold").json["legal_hold"] is False
    result(runtime, CleanUpOldSessions())
    assert left(runtime) == {failed}
    assert admin.simulate_put(f"/v1/sessions/{old}/hold").status_code == 404


def test_failed_and_stuck_sessions_go_after_a_day(runtime: Runtime) -> None:
    kept = {
        add(runtime, state="failed", ended_days_ago=0.5, sent_days_ago=0.9),
        add(runtime, state="detecting", ended_days_ago=None, sent_days_ago=0.9),
        add(runtime, state="completed", ended_days_ago=3, sent_days_ago=3),
        add(runtime, state="partial", ended_days_ago=3, sent_days_ago=3),
    }
    # A session that waits for storage or is retried is not stuck.
    waiting: dict[str, Any] = {"ended_days_ago": None, "sent_days_ago": 3}
    kept.add(add(runtime, state="detecting", work={"waits_for_storage": True}, **waiting))
    kept.add(add(runtime, state="splitting", work={"uncounted": 6, "attempt": 7}, **waiting))
    add(runtime, state="failed", ended_days_ago=1, sent_days_ago=2)
    add(runtime, state="aggregating", ended_days_ago=None, sent_days_ago=2)
    assert result(runtime, CleanUpFailedSessions())["sessions"] == 2
    assert left(runtime) == kept
    assert result(runtime, CleanUpFailedSessions(), older_than_hours=20)["sessions"] == 2


def test_sessions_of_a_restored_database_have_a_day_from_the_restore_on(runtime: Runtime) -> None:
    """Those that were under way in the dump are old, and would go in the first night."""
    under_way = add(runtime, state="detecting", ended_days_ago=None, sent_days_ago=20)
    ended = add(runtime)
    taken = ownership.take(runtime.store, runtime.blobs, is_restored=True)
    for options in ({}, {"dry_run": True}):
        assert result(runtime, CleanUpFailedSessions(), **options)["sessions"] == 0
    assert result(runtime, CleanUpOldSessions())["sessions"] == 1
    assert left(runtime) == {under_way}
    assert ended not in left(runtime)
    assert taken.restored_at is not None
    earlier = msgspec.structs.replace(taken, restored_at=taken.restored_at - timedelta_days(1.01))
    runtime.blobs.put(OWNER, msgspec.json.encode(earlier))
    assert result(runtime, CleanUpFailedSessions(), dry_run=True)["sessions"] == 1
    assert result(runtime, CleanUpFailedSessions())["sessions"] == 1
    assert left(runtime) == set()


def test_a_restore_in_its_place_is_noticed(runtime: Runtime) -> None:
    """Such a database has the identity that it had before."""
    under_way = add(runtime, state="detecting", ended_days_ago=None, sent_days_ago=20)
    taken = ownership.take(runtime.store, runtime.blobs, is_restored=False)
    with runtime.store.transaction() as tx:
        # As a dump that replaces the rows.
        row = tx.execute(text("DELETE FROM installation RETURNING id")).one()
        tx.execute(text("INSERT INTO installation (id) VALUES (:id)"), {"id": row.id})
    assert result(runtime, CleanUpFailedSessions())["sessions"] == 0
    noted = ownership.of_blobs(runtime.blobs)
    assert noted is not None
    assert noted.is_same(taken)
    assert noted.restored_at is not None
    # Once: later runs do not begin another day.
    assert result(runtime, CleanUpFailedSessions())["sessions"] == 0
    assert ownership.of_blobs(runtime.blobs) == noted
    assert left(runtime) == {under_way}


def test_an_item_of_a_batch_says_that_its_session_is_gone(runtime: Runtime) -> None:
    batch_id = uuid.uuid4()
    with runtime.store.transaction() as tx:
        batch = batch_queries.add_batch(
            tx, id=batch_id, user_id=accounts.TEAM, state="receiving", options={}
        )
        assert batch is not None
        session_id = batch_queries.take_item(
            tx, batch, 0, file_name="a", size_bytes=1, key="nowhere"
        )
        put_into(
            tx, session_id, "completed", finished_at=session_queries.clock(tx) - timedelta_days(40)
        )
    assert result(runtime, CleanUpOldSessions())["sessions"] == 1
    with runtime.store.transaction() as tx:
        assert batch_queries.count_items(tx, batch_id)[0] == {"removed": 1}


def test_the_surest_clips_of_each_type_are_kept(runtime: Runtime) -> None:
    sound = recordings.encode(recordings.demo()[: 6 * SECOND])
    first = add(runtime, content=sound)
    detect(
        runtime,
        first,
        ("rain", 0.5, 1.0),
        ("rain", 0.9, 2.0),
        ("rain", 0.7, 3.0),
        ("siren_sweep", 0.6, 4.0),
        ("unclassified", 1.0, 0.0),
    )
    found = result(runtime, CleanUpOldSessions(), keep_best=2)
    assert (found["sessions"], found["kept_clips"]) == (1, 3)

    def kept() -> list[tuple[str, float]]:
        with runtime.store.transaction() as tx:
            rows = tx.scalars(
                select(KeptClip).order_by(KeptClip.noise_type, KeptClip.confidence.desc())
            ).all()
        assert {row.blob_key for row in rows} == set(runtime.blobs.keys("clips/"))
        return [(row.noise_type, row.confidence) for row in rows]

    assert kept() == [("rain", 0.9), ("rain", 0.7), ("siren_sweep", 0.6)]
    [key, *_] = runtime.blobs.keys("clips/")
    samples, rate_hz = soundfile.read(io.BytesIO(runtime.blobs.get(key)))
    # Half a second of the event, and half a second on either side.
    assert (len(samples), rate_hz) == (1.5 * SECOND, SECOND)

    # A clip with more confidence replaces the one with the least; one with less is not kept.
    second = add(runtime, content=sound)
    detect(runtime, second, ("rain", 0.8, 1.0), ("rain", 0.6, 2.0))
    result(runtime, CleanUpOldSessions(), keep_best=2)
    assert kept() == [("rain", 0.9), ("rain", 0.8), ("siren_sweep", 0.6)]

    # The nightly clean-up keeps these clips and removes only the stray one.
    stranger = clip_key(uuid.uuid4())
    runtime.blobs.put(stranger, b"of a run that died")
    runtime.settings = replace(runtime.settings, orphan_s=1e-6)
    clean_up_twice(runtime)
    assert stranger not in runtime.blobs.keys("clips/")
    assert len(kept()) == 3


def test_a_recording_that_cannot_be_read_keeps_no_session_from_going(runtime: Runtime) -> None:
    for content in (b"no sound at all", b""):
        detect(runtime, add(runtime, content=content), ("rain", 0.9, 0.0))
    gone = add(runtime)
    detect(runtime, gone, ("rain", 0.9, 0.0))
    runtime.blobs.delete(recording_key(gone))
    found = result(runtime, CleanUpOldSessions(), keep_best=5)
    assert (found["sessions"], found["kept_clips"]) == (3, 0)


def test_a_worker_that_dies_between_rows_and_blobs_leaves_what_is_cleaned_up(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(runtime)

    def die(*_keys: str) -> None:
        raise OSError("the blob store is away")

    with monkeypatch.context() as patch:
        patch.setattr(runtime.blobs, "delete", die)
        run = ask(runtime, CleanUpOldSessions())
    assert run.state == "pending"
    assert left(runtime) == set()
    assert len(runtime.blobs.keys("sessions/")) == 2
    runtime.settings = replace(runtime.settings, orphan_s=1e-6)
    clean_up_twice(runtime)
    assert runtime.blobs.keys("sessions/") == []


def test_a_session_that_somebody_has_locked_does_not_hold_the_others_up(runtime: Runtime) -> None:
    locked, free = add(runtime), add(runtime)
    with runtime.store.transaction() as other:
        held = select(AudioSession.id).where(AudioSession.id == locked).with_for_update()
        other.execute(held).one()
        assert result(runtime, CleanUpOldSessions())["sessions"] == 1
    assert left(runtime) == {locked}
    assert free not in left(runtime)


@pytest.mark.parametrize(
    "options", [{"older_than_days": -1}, {"keep_best": "many"}, {"older_then_days": 3}]
)
def test_options_that_mean_nothing_remove_nothing(
    runtime: Runtime, options: dict[str, Any]
) -> None:
    add(runtime, ended_days_ago=10)
    run = ask(runtime, CleanUpOldSessions(), **options)
    assert run.state == "failed"
    assert run.problem is not None
    assert run.problem["code"] == "bad-options"
    assert len(left(runtime)) == 1


def test_a_kept_clip_has_the_channel_that_was_analysed(runtime: Runtime) -> None:
    sound = recordings.demo()[: 3 * SECOND]
    content = recordings.encode(recordings.on_channel(9, sound), container="WAV")
    session_id = add(runtime, content=content, totals={"used": [8]})
    # One that was measured before the channels were stored.
    older = add(runtime, content=recordings.encode(sound), totals={})
    for each in (session_id, older):
        detect(runtime, each, ("rain", 0.9, 1.0))
    assert result(runtime, CleanUpOldSessions(), keep_best=2)["kept_clips"] == 2
    for key in runtime.blobs.keys("clips/"):
        samples, _ = soundfile.read(io.BytesIO(runtime.blobs.get(key)), always_2d=True)
        np.testing.assert_allclose(samples[:, 0], sound[SECOND // 2 : 2 * SECOND], atol=1e-4)
        assert not samples[:, 1:].any()


def test_a_hold_that_comes_in_the_middle_is_heeded(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    session_id = add(runtime, content=recordings.encode(recordings.demo()[: 3 * SECOND]))
    detect(runtime, session_id, ("rain", 0.9, 1.0))
    cut: Callable[..., Any] = clips.cut

    def hold_meanwhile(*given: Any) -> Any:
        with runtime.store.transaction() as tx:
            assert retention_queries.hold_session(tx, session_id, held=True, owner=None)
        return cut(*given)

    monkeypatch.setattr(clips, "cut", hold_meanwhile)
    found = result(runtime, CleanUpOldSessions(), keep_best=2)
    assert (found["sessions"], found["kept_clips"]) == (0, 0)
    assert left(runtime) == {session_id}
    assert len(runtime.blobs.keys("sessions/")) == 2
    # Its clips are stored when the session is removed, not before.
    assert runtime.blobs.keys("clips/") == []
