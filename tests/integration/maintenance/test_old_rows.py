"""``clean_up`` removes rows past their retention, and none that something still needs."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select, text

from actors.execution.runtime import Runtime
from actors.maintenance import cleanup, ownership
from actors.messaging.messages import CleanUp
from db.blobs.keys import report_key, training_prefix, validation_prefix
from db.ids import new_id
from db.queries import batch_queries, model_queries, old_row_queries, retention_queries
from db.tables.base import Base
from db.tables.batches import AudioBatch, AudioBatchItem
from db.tables.job_runs import JobRun
from db.tables.reports import DailyReport
from db.tables.training import TrainingClip, TrainingJob, Validation
from tests.support import accounts
from tests.support.clock import ask, clean_up_twice, findings
from tests.support.pipeline import handle, put_into

pytestmark = pytest.mark.integration

NOW = datetime.now(UTC)
HOUR = timedelta(hours=1)


def ago(days: float) -> datetime:
    return NOW - timedelta(days=days)


def add(runtime: Runtime, *rows: Base) -> None:
    with runtime.store.transaction() as tx:
        for row in rows:
            tx.add(row)
            tx.flush()


def ids(runtime: Runtime, column: Any) -> set[Any]:
    with runtime.store.transaction() as tx:
        return set(tx.scalars(select(column)))


def cleaned(runtime: Runtime, **settings: float) -> dict[str, Any]:
    runtime.settings = replace(runtime.settings, **settings)  # type: ignore[arg-type]
    return findings(ask(runtime, CleanUp()))


def run_of(
    job: str, days: float, *, source: str = "clock", state: str = "completed", **values: Any
) -> JobRun:
    slot = ago(days)
    ended = None if state == "pending" else slot
    return JobRun(
        id=new_id(), job=job, slot=slot, source=source, state=state, finished_at=ended, **values
    )


def test_old_runs_go_and_the_newest_that_ended_stay(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cleanup, "PAGE_ROWS", 2)
    old = [run_of("health_check", days) for days in (91, 92, 93, 94, 95)]
    kept = [
        run_of("health_check", 89),
        # The only run of each of these jobs or sources. Without it, recovery would take the job for
        # one of a new installation.
        run_of("cleanup_old_sessions", 400, state="failed"),
        run_of("cleanup_old_sessions", 500, source="person"),
        run_of("cleanup_old_sessions", 600, source="steward"),
        # One that has not ended is not old, and does not succeed one that has.
        run_of("vacuum_database", 200),
        run_of("vacuum_database", 199, state="pending"),
    ]
    add(runtime, *old, *kept)
    found = cleaned(runtime)
    assert found["runs"] == 5
    of_others = JobRun.job != CleanUp.actor
    with runtime.store.transaction() as tx:
        assert set(tx.scalars(select(JobRun.id).where(of_others))) == {row.id for row in kept}
    assert cleaned(runtime, keep_runs_days=0)["runs"] == 0
    assert cleaned(runtime, keep_runs_days=80)["runs"] == 0


def batch(days: float | None, *, state: str = "taken", items: int = 1) -> AudioBatch:
    return AudioBatch(
        id=new_id(),
        user_id=accounts.TEAM,
        state=state,
        options={},
        items_total=items,
        finished_at=None if days is None else ago(days),
    )


def test_old_batches_go_once_they_have_no_sessions(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(old_row_queries, "PAGE_ITEMS", 10)
    old = [batch(91, items=n) for n in (12, 4, 6, 1)] + [batch(92, state="cancelled")]
    with_session, kept = batch(100), [batch(89), batch(None, state="receiving")]
    add(runtime, *old, with_session, *kept)
    add(
        runtime,
        *(
            AudioBatchItem(batch_id=old[0].id, item_index=i, file_name="a", outcome="taken")
            for i in range(12)
        ),
    )
    with runtime.store.transaction() as tx:
        row = batch_queries.get_batch(tx, with_session.id)
        assert row is not None
        session_id = batch_queries.take_item(tx, row, 0, file_name="a", size_bytes=1, key="nowhere")
        assert retained(tx, session_id)
    assert cleaned(runtime, keep_batches_days=0)["batches"] == 0
    assert cleaned(runtime, keep_batches_days=90)["batches"] == len(old)
    assert ids(runtime, AudioBatch.id) == {with_session.id, *(row.id for row in kept)}
    assert ids(runtime, AudioBatchItem.batch_id) == {with_session.id}
    with runtime.store.transaction() as tx:
        tx.execute(text("DELETE FROM audio_sessions"))
    assert cleaned(runtime)["batches"] == 1


def retained(tx: Any, session_id: uuid.UUID) -> bool:
    """Set a legal hold on an ended session."""
    put_into(tx, session_id, "completed", finished_at=ago(99))
    return retention_queries.hold_session(tx, session_id, held=True, owner=None)


def test_a_page_of_batches_ends_where_they_get_long(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(old_row_queries, "PAGE_ITEMS", 10)
    add(runtime, *(batch(days, items=n) for days, n in ((95, 12), (94, 4), (93, 6), (92, 1))))
    pages: list[int] = []
    while not pages or pages[-1]:
        with runtime.store.transaction() as tx:
            pages.append(old_row_queries.remove_old_batches(tx, older_than_s=86_400, limit=9))
    assert pages == [1, 2, 1, 0]


def test_a_batch_that_is_locked_does_not_hold_the_others_up(runtime: Runtime) -> None:
    locked, free = batch(100), batch(100)
    add(runtime, locked, free)
    with runtime.store.transaction() as other:
        assert batch_queries.lock_batch(other, locked.id) is not None
        assert cleaned(runtime)["batches"] == 1
    assert ids(runtime, AudioBatch.id) == {locked.id}


def report(runtime: Runtime, day: date, days: float | None) -> uuid.UUID:
    report_id, made_id = new_id(), new_id()
    key = report_key(report_id, made_id)
    runtime.blobs.put(key, b"<!doctype html>")
    made: dict[str, Any] = {"report": {}, "made_at": ago(400), "made_from": "0:", "html_key": key}
    row = DailyReport(
        id=report_id,
        user_id=accounts.TEAM,
        day=day,
        time_zone="UTC",
        starts_at=ago(500),
        ends_at=ago(499),
        state="pending" if days is None else "completed",
        finished_at=None if days is None else ago(days),
        **made,
    )
    add(runtime, row)
    return report_id


def test_old_reports_go_with_their_pages_on_request(runtime: Runtime) -> None:
    old = report(runtime, date(2025, 1, 1), 40)
    kept = {
        # Generated again lately, and being generated again.
        report(runtime, date(2025, 1, 2), 20),
        report(runtime, date(2025, 1, 3), None),
    }
    assert cleaned(runtime)["reports"] == 0
    assert ids(runtime, DailyReport.id) == {old, *kept}
    assert cleaned(runtime, keep_reports_days=30)["reports"] == 1
    assert ids(runtime, DailyReport.id) == kept
    assert {key.split("/")[1] for key in runtime.blobs.keys("reports/")} == {
        str(each) for each in kept
    }


def model(runtime: Runtime, key: str, *, name: str = "street") -> uuid.UUID:
    runtime.blobs.put(key, b"a model")
    with runtime.store.transaction() as tx:
        return model_queries.register_model(
            tx, name=name, version="1", sha256=new_id().hex, header={}, blob_key=key
        )


def training(runtime: Runtime, version: int, **values: Any) -> TrainingJob:
    job_id = new_id()
    key = f"{training_prefix(job_id)}clip-0"
    runtime.blobs.put(key, b"a clip")
    row = TrainingJob(
        id=job_id,
        name=values.pop("name", "street"),
        version=version,
        seed=0,
        **{"state": "completed", "finished_at": ago(40)} | values,
    )
    clip = {"file_name": "a.wav", "label": "rain", "source": "a", "blob_key": key}
    add(runtime, row, TrainingClip(job_id=job_id, clip_index=0, **clip))
    return row


def promote(runtime: Runtime, model_id: uuid.UUID) -> None:
    with runtime.store.transaction() as tx:
        model_queries.add_promotion(tx, model_id=model_id, forced=False, comparison={})


def test_old_trainings_go_and_their_models_stay(runtime: Runtime) -> None:
    old_id = new_id()
    model_key = f"{training_prefix(old_id)}model-1"
    model_id = model(runtime, model_key)
    old = training(runtime, 1, model_id=model_id)
    # Its model is in the folder of another training here, which changes nothing.
    in_use = training(runtime, 2, model_id=model(runtime, "models/used"))
    failed = training(runtime, 3, state="failed")
    kept = [
        in_use,
        training(runtime, 4, finished_at=ago(20)),
        training(runtime, 5, state="pending", finished_at=None),
        training(runtime, 6),
        training(runtime, 1, name="harbour"),
    ]
    assert in_use.model_id is not None
    promote(runtime, in_use.model_id)
    assert cleaned(runtime)["trainings"] == 0
    assert cleaned(runtime, keep_trainings_days=30)["trainings"] == 2
    assert ids(runtime, TrainingJob.id) == {row.id for row in kept}
    assert ids(runtime, TrainingClip.job_id) == {row.id for row in kept}
    folders = {key.split("/")[1] for key in runtime.blobs.keys("trainings/")}
    assert folders == {str(old_id), *(str(row.id) for row in kept)}
    assert old.id not in folders
    assert failed.id not in folders
    # The next training of a name is a new version.
    with runtime.store.transaction() as tx:
        clip: Any = {"file_name": "a", "label": "rain", "source": "a"}
        job = model_queries.add_training(tx, [clip], name="street", id=new_id(), seed=0)
        assert job.version == 7


def test_the_file_of_a_model_outlives_its_training_and_validation(runtime: Runtime) -> None:
    job, validation_id = training(runtime, 1), new_id()
    training(runtime, 2)
    trained, uploaded = f"{training_prefix(job.id)}model-1", f"{validation_prefix(validation_id)}m"
    labelled = f"{validation_prefix(validation_id)}clip-0"
    runtime.blobs.put(labelled, b"a clip")
    models = [model(runtime, trained), model(runtime, uploaded)]
    ended: dict[str, Any] = {"state": "completed", "finished_at": ago(40)}
    add(
        runtime,
        Validation(id=validation_id, model_id=models[1], file_key=uploaded, report={}, **ended),
    )
    found = cleaned(runtime, keep_trainings_days=30, keep_validations_days=30)
    assert (found["trainings"], found["validations"]) == (1, 1)
    # The search for files without rows keeps them, too.
    runtime.settings = replace(runtime.settings, orphan_s=1e-6)
    clean_up_twice(runtime)
    for key in (trained, uploaded):
        assert runtime.blobs.get(key) == b"a model"
    assert f"{training_prefix(job.id)}clip-0" not in runtime.blobs.keys("trainings/")
    assert runtime.blobs.keys("validations/") == [uploaded]


def test_validations_of_the_model_in_use_stay(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cleanup, "PAGE_LABELLED", 1)
    used, other = model(runtime, "models/a"), model(runtime, "models/b")
    promote(runtime, used)
    rows = [
        Validation(id=new_id(), model_id=model_id, state=state, finished_at=ended)
        for model_id, state, ended in (
            (used, "completed", ago(40)),
            (other, "completed", ago(20)),
            (other, "pending", None),
            (other, "completed", ago(40)),
            (other, "failed", ago(50)),
        )
    ]
    add(runtime, *rows)
    assert cleaned(runtime)["validations"] == 0
    assert cleaned(runtime, keep_validations_days=30)["validations"] == 2
    assert ids(runtime, Validation.id) == {row.id for row in rows[:3]}


def test_rows_with_files_stay_while_the_owner_of_the_store_is_undecided(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = report(runtime, date(2025, 1, 1), 40)
    add(runtime, batch(100))
    monkeypatch.setattr(ownership, "settle", lambda *_args, **_options: False)
    found = cleaned(runtime, keep_reports_days=30)
    assert found["batches"] == 1
    assert "reports" not in found
    assert ids(runtime, DailyReport.id) == {old}


def test_a_worker_that_dies_after_the_rows_leaves_files_that_are_removed(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    report(runtime, date(2025, 1, 1), 40)
    runtime.settings = replace(runtime.settings, keep_reports_days=30, orphan_s=1e-6)

    def die(*_keys: str) -> None:
        raise OSError("the blob store is away")

    with monkeypatch.context() as patch:
        patch.setattr(runtime.blobs, "delete", die)
        assert ask(runtime, CleanUp()).state == "pending"
    assert ids(runtime, DailyReport.id) == set()
    with runtime.store.transaction() as tx:
        tx.execute(text("UPDATE job_runs SET due_at = now()"))
    handle(runtime, CleanUp())
    clean_up_twice(runtime)
    assert runtime.blobs.keys("reports/") == []
