"""A blob store that is away or full: work waits for it without using up attempts."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from dramatiq.brokers.stub import StubBroker
from sqlalchemy import func, text

from actors.execution import failures, runner
from actors.execution.failures import judge
from actors.execution.lease import Lease
from actors.execution.runtime import Runtime
from actors.messaging.messages import (
    AggregateSession,
    AnalyzeSession,
    BatchProcessFiles,
    DetectSpan,
    ExportSessionData,
    GenerateDailyReport,
    Nudge,
    ProcessAudioFile,
    SplitRecording,
    TrainNoiseClassifier,
    ValidateModel,
)
from db.blobs.blob_store import Blobs
from db.blobs.errors import StorageFull, StorageUnavailable
from db.queries import (
    analysis_queries,
    batch_queries,
    export_queries,
    model_queries,
    report_queries,
)
from db.queries.model_queries import NewTrainingClipRow
from db.queue import claims
from db.queue.claims import SessionWork
from db.settings import Settings
from db.tables.sessions import WAITING_FOR_STORAGE
from tests.chaos.stores import FolderStore
from tests.support import accounts, outages, recordings
from tests.support.api import Api, client_of
from tests.support.pipeline import add, handle, put_into, run_to_the_end, session, split, work_of

pytestmark = pytest.mark.integration

#: More than the attempts allowed for any other reason.
TIMES = 7
SHORT = recordings.encode(recordings.demo())


def row(runtime: Runtime, table: str) -> Any:
    """Return the only row of a table; None without any."""
    rows = text(f"SELECT *, clock_timestamp() AS now FROM {table}")  # noqa: S608
    with runtime.store.transaction() as tx:
        return tx.execute(rows).one_or_none()


def make_due(runtime: Runtime, table: str) -> None:
    with runtime.store.transaction() as tx:
        tx.execute(text(f"UPDATE {table} SET due_at = now()"))  # noqa: S608


def try_again(runtime: Runtime, table: str, nudge: Nudge) -> None:
    """Make a row due and handle its nudge."""
    make_due(runtime, table)
    handle(runtime, nudge)


# --- every kind of work ------------------------------------------------------------------------


def of_process(runtime: Runtime) -> Nudge:
    return ProcessAudioFile(session_id=add(runtime, SHORT))


def of_split(runtime: Runtime) -> Nudge:
    session_id = add(runtime, SHORT)
    handle(runtime, ProcessAudioFile(session_id=session_id))
    return SplitRecording(session_id=session_id)


def of_detect(runtime: Runtime) -> Nudge:
    return DetectSpan(session_id=split(runtime, SHORT), span_index=0)


def of_aggregate(runtime: Runtime) -> Nudge:
    session_id = split(runtime, SHORT)
    handle(runtime, DetectSpan(session_id=session_id, span_index=0))
    return AggregateSession(session_id=session_id)


def of_analysis(runtime: Runtime) -> Nudge:
    session_id = add(runtime, b"fLaC")
    runtime.blobs.put(f"sessions/{session_id}/levels-1", b"levels")
    with runtime.store.transaction() as tx:
        levels_key = f"sessions/{session_id}/levels-1"
        put_into(tx, session_id, "completed", finished_at=func.now(), levels_key=levels_key)
        analysis_queries.ask_analysis(tx, session_id, asking_id=uuid.uuid4(), traceparent=None)
    return AnalyzeSession(session_id=session_id)


def of_batch(runtime: Runtime) -> Nudge:
    runtime.blobs.put("inbox/a.flac", SHORT)
    batch_id = uuid.uuid4()
    with runtime.store.transaction() as tx:
        batch_queries.add_batch(
            tx,
            id=batch_id,
            user_id=accounts.TEAM,
            state="expanding",
            options={},
            items_total=1,
        )
        batch_queries.add_keys(tx, batch_id, [("inbox/a.flac", None)])
    return BatchProcessFiles(batch_id=batch_id)


def of_training(runtime: Runtime) -> Nudge:
    runtime.blobs.put("trainings/a/clips/0", SHORT)
    job_id = uuid.uuid4()
    key = "trainings/a/clips/0"
    clip = NewTrainingClipRow(file_name="a", label="a", source="a", blob_key=key)
    with runtime.store.transaction() as tx:
        model_queries.add_training(
            tx, [clip], id=job_id, user_id=accounts.TEAM, name="m", algorithm=None, seed=0
        )
    return TrainNoiseClassifier(job_id=job_id)


def of_validation(runtime: Runtime) -> Nudge:
    validation_id = uuid.uuid4()
    with runtime.store.transaction() as tx:
        model_queries.add_validation(
            tx, id=validation_id, user_id=accounts.TEAM, model_id=runtime.shipped_model_id
        )
    return ValidateModel(validation_id=validation_id)


def of_export(runtime: Runtime) -> Nudge:
    export_id = uuid.uuid4()
    with runtime.store.transaction() as tx:
        export_queries.add_export(
            tx,
            id=export_id,
            user_id=accounts.TEAM,
            format="csv",
            selection={},
            expires_at=datetime.now(UTC) + timedelta(days=1),
        )
    return ExportSessionData(export_id=export_id)


def of_report(runtime: Runtime) -> Nudge:
    with runtime.store.transaction() as tx:
        report_id = report_queries.ask_for_report(
            tx,
            id=uuid.uuid4(),
            day=date(2026, 3, 14),
            time_zone="UTC",
            user_id=accounts.TEAM,
            starts_at=datetime(2026, 3, 14, tzinfo=UTC),
            ends_at=datetime(2026, 3, 15, tzinfo=UTC),
        )
    return GenerateDailyReport(report_id=report_id)


@pytest.mark.parametrize(
    ("table", "make"),
    [
        ("unfinished_sessions", of_process),
        ("unfinished_sessions", of_split),
        ("session_spans", of_detect),
        ("unfinished_sessions", of_aggregate),
        ("analyses", of_analysis),
        ("batches", of_batch),
        ("training_jobs", of_training),
        ("validations", of_validation),
        ("exports", of_export),
        ("daily_reports", of_report),
    ],
)
def test_work_of_every_kind_waits_for_a_store_that_is_away(
    runtime: Runtime, table: str, make: Callable[[Runtime], Nudge]
) -> None:
    nudge = make(runtime)
    before = row(runtime, table)
    with outages.away(runtime.settings.blob_url):
        for times in range(1, TIMES + 1):
            try_again(runtime, table, nudge)
            now = row(runtime, table)
            assert (now.state, now.waits_for_storage) == (before.state, True), now.last_error
            assert (now.attempt, now.uncounted) == (times, times)
            assert "blob store" in now.last_error
            wait_s = (now.due_at - now.now).total_seconds()
            longest_s = min(2.0 * 4.0 ** (times - 1), failures.OUTAGE_RETRY_MAX_S)
            assert 0.75 * longest_s - 2 < wait_s <= 1.25 * longest_s
    with runtime.store.transaction() as tx:
        kept = tx.execute(
            text("SELECT count(*) FROM processing_metrics WHERE result = 'retried'")
        ).scalar_one()
    assert kept == failures.UNCOUNTED_RUNS_KEPT < TIMES
    try_again(runtime, table, nudge)
    after = row(runtime, table)
    if after is None:
        # The work on a session goes with its end.
        assert table == "unfinished_sessions"
        return
    assert not after.waits_for_storage
    assert after.state != before.state or after.last_error is None or "blob" not in after.last_error


# --- reporting ---------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [of_split, of_detect])
def test_a_session_says_that_it_waits_and_goes_on_by_itself(
    runtime: Runtime, api: Api, make: Callable[[Runtime], Nudge]
) -> None:
    nudge = make(runtime)
    session_id = nudge.session_id  # type: ignore[attr-defined]
    table = "session_spans" if make is of_detect else "unfinished_sessions"

    def shown() -> Any:
        return api.simulate_get(f"/v1/sessions/{session_id}").json

    before = shown()
    with outages.away(runtime.settings.blob_url):
        for _ in range(TIMES):
            try_again(runtime, table, nudge)
        waiting = shown()
        listed = api.simulate_get("/v1/sessions").json["items"]
    assert (waiting["stage"], waiting["time_left_s"]) == (WAITING_FOR_STORAGE, None)
    assert waiting["state"] == before["state"]
    assert waiting["percent"] >= before["percent"]
    assert [each["stage"] for each in listed] == [WAITING_FOR_STORAGE]
    make_due(runtime, table)
    assert run_to_the_end(runtime, session_id).state == "completed"
    assert shown()["stage"] == "completed"


def test_a_job_says_that_it_waits(runtime: Runtime, api: Api) -> None:
    nudge = of_export(runtime)
    with outages.away(runtime.settings.blob_url):
        handle(runtime, nudge)
    shown = api.simulate_get(f"/v1/exports/{nudge.export_id}").json  # type: ignore[attr-defined]
    assert (shown["state"], shown["stage"]) == ("pending", WAITING_FOR_STORAGE)


# --- a full disk -------------------------------------------------------------------------------


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[FolderStore]:
    with outages.small_disk(tmp_path) as made:
        yield made


@pytest.fixture
def on_disk(memory_settings: Settings, memory: StubBroker, disk: FolderStore) -> Iterator[Runtime]:
    """A worker whose blobs are on the small disk."""
    runtime = Runtime(replace(memory_settings, blob_url=disk.url), memory)
    yield runtime
    runtime.close()


def test_a_full_disk_uses_up_no_attempts(on_disk: Runtime, disk: FolderStore) -> None:
    session_id = add(on_disk, SHORT)
    handle(on_disk, ProcessAudioFile(session_id=session_id))
    with outages.full(disk):
        for _ in range(TIMES):
            try_again(on_disk, "unfinished_sessions", SplitRecording(session_id=session_id))
        waiting = work_of(on_disk, session_id)
    assert (waiting.state, waiting.waits_for_storage) == ("splitting", True)
    assert waiting.last_error == judge(StorageFull()).reason
    make_due(on_disk, "unfinished_sessions")
    assert run_to_the_end(on_disk, session_id).state == "completed"


def test_a_full_disk_makes_the_api_unready_and_refuses_recordings(
    on_disk: Runtime, disk: FolderStore
) -> None:
    api = client_of(on_disk)
    assert api.simulate_get("/health/ready").status_code == 200
    before = disk.keys()
    with outages.full(disk):
        unready = api.simulate_get("/health/ready")
        refused = api.simulate_post(
            "/v1/sessions", body=SHORT, headers={"Content-Type": "audio/flac"}
        )
    assert unready.status_code == 503
    assert "room" in unready.json["checks"]["blobs"]
    assert (refused.status_code, refused.json["type"]) == (503, "/problems/store-unavailable")
    assert refused.headers["retry-after"]
    # The probe itself leaves nothing behind.
    assert disk.keys() == before
    assert api.simulate_get("/health/ready").status_code == 200


def test_a_disk_with_little_room_counts_as_full(disk: FolderStore) -> None:
    blobs = Blobs(disk.url)
    blobs.check()
    room = blobs.room()
    assert room is not None
    blobs.put("filler", bytes(room.free - int(room.total * 0.04)))
    with pytest.raises(StorageFull):
        blobs.check()
    blobs.delete("filler")
    blobs.check()


# --- not an outage -----------------------------------------------------------------------------


def test_what_kills_its_workers_is_given_up_though_it_waited_for_storage(runtime: Runtime) -> None:
    session_id = add(runtime, SHORT)
    nudge = ProcessAudioFile(session_id=session_id)
    with outages.away(runtime.settings.blob_url):
        for _ in range(TIMES):
            try_again(runtime, "unfinished_sessions", nudge)
    most = runtime.settings.max_attempts
    work = SessionWork(session_id=session_id, state="queued")
    for killed in range(1, most + 1):
        make_due(runtime, "unfinished_sessions")
        with runtime.store.transaction() as tx:
            claim = claims.this(work, tx, lease_s=0)
        assert claim is not None
        assert (claim.attempt, claim.uncounted) == (TIMES + killed, TIMES)
    handle(runtime, nudge)
    ended = session(runtime, session_id)
    assert ended.state == "failed"
    assert ended.problem is not None
    assert ended.problem["code"] == "given-up"
    assert f"after {most} attempts" in ended.problem["detail"]


def test_one_blob_that_cannot_be_read_is_given_up(runtime: Runtime, tmp_path: Path) -> None:
    """This is not an outage: other work continues, and this work would wait forever."""
    runtime.blobs.put("inbox/good.flac", SHORT)
    (tmp_path / "blobs" / "inbox" / "loop.flac").symlink_to("loop.flac")
    batch_id = uuid.uuid4()
    keys = ["inbox/good.flac", "inbox/loop.flac"]
    with runtime.store.transaction() as tx:
        batch_queries.add_batch(
            tx, id=batch_id, user_id=accounts.TEAM, state="expanding", options={}, items_total=2
        )
        batch_queries.add_keys(tx, batch_id, ((key, None) for key in keys))
    for _ in range(runtime.settings.max_attempts):
        try_again(runtime, "batches", BatchProcessFiles(batch_id=batch_id))
    assert row(runtime, "batches").state == "taken"
    with runtime.store.transaction() as tx:
        reasons = (
            tx.execute(text("SELECT reason FROM batch_items ORDER BY item_index")).scalars().all()
        )
    assert [reason is None for reason in reasons] == [True, False]


def test_the_count_of_claims_starts_again_before_its_column_is_full(runtime: Runtime) -> None:
    session_id = add(runtime, SHORT)
    with runtime.store.transaction() as tx:
        tx.execute(
            text("UPDATE unfinished_sessions SET attempt = :most - 1, uncounted = :most - 3"),
            {"most": claims.MOST_CLAIMS},
        )
    work = SessionWork(session_id=session_id, state="queued")

    def perform(_hold: Lease) -> runner.Result:
        raise StorageUnavailable("the blob store failed")

    runner.run(
        runtime,
        ProcessAudioFile(session_id=session_id),
        partial(claims.this, work),
        lambda work: runner.Task(
            name="process", work=work, perform=perform, give_up=runner.fail(work)
        ),
    )
    waiting = work_of(runtime, session_id)
    assert (waiting.attempt, waiting.uncounted, waiting.state) == (0, 0, "queued")
    assert waiting.waits_for_storage
