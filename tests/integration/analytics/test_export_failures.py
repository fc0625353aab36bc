"""Exports whose worker or storage fails."""

from __future__ import annotations

import uuid
from dataclasses import replace

import pytest
from sqlalchemy import text

from actors.analytics.formats.csv_table import CsvTable
from actors.execution.runtime import Runtime
from actors.messaging.messages import ExportSessionData
from actors.recovery import take_stalled
from db.blobs.keys import export_prefix
from tests.integration.analytics.exported import add, file_of, get, left, rows_of
from tests.support.api import Api
from tests.support.clock import clean_up_twice
from tests.support.pipeline import handle

pytestmark = pytest.mark.integration


class Died(BaseException):
    """Stands for the death of a process; nothing catches it."""


def test_a_worker_that_dies_in_between_is_followed_by_another(
    api: Api, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(runtime, 1.0, 2.0)
    asked = api.simulate_post("/v1/exports", json={"format": "csv"}).json
    nudge = ExportSessionData(export_id=uuid.UUID(asked["id"]))

    def die(_self: CsvTable) -> None:
        raise Died

    with monkeypatch.context() as patch:
        patch.setattr(CsvTable, "close", die)
        with pytest.raises(Died):
            handle(runtime, nudge)
    row = get(runtime, asked["id"])
    assert row is not None
    assert (row.state, row.attempt, row.blob_key) == ("pending", 1, None)
    # The first attempt's partial file belongs to no row.
    stale = f"{export_prefix(row.id)}1"
    runtime.blobs.put(stale, b"half a fi")
    handle(runtime, nudge)
    assert file_of(api, asked).status_code == 409
    with runtime.store.transaction() as tx:
        tx.execute(text("UPDATE exports SET due_at = now(), nudged_at = now() - interval '1 h'"))
        nudges = take_stalled(tx, unnudged_s=0, limit=10)
    assert nudges == [nudge]
    handle(runtime, nudges[0])
    row = get(runtime, asked["id"])
    assert row is not None
    assert (row.state, row.blob_key) == ("completed", f"{export_prefix(row.id)}2")
    assert len(rows_of(api, asked)) == 2
    # The nightly clean-up removes the partial file but keeps the export's.
    runtime_now = replace(runtime.settings, orphan_s=1e-6)
    monkeypatch.setattr(runtime, "settings", runtime_now)
    assert stale in runtime.blobs.keys("exports/")
    clean_up_twice(runtime)
    assert runtime.blobs.keys("exports/") == [row.blob_key]


def test_what_is_removed_under_way_leaves_nothing(
    api: Api, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(runtime, 1.0)
    asked = api.simulate_post("/v1/exports", json={"format": "csv"}).json

    def removed(_self: CsvTable) -> None:
        assert api.simulate_delete(f"/v1/exports/{asked['id']}").status_code == 204

    monkeypatch.setattr(CsvTable, "close", removed)
    handle(runtime, ExportSessionData(export_id=uuid.UUID(asked["id"])))
    assert get(runtime, asked["id"]) is None
    assert left(runtime) == []


def test_a_store_that_fails_is_tried_again(
    api: Api, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(runtime, 1.0)
    asked = api.simulate_post("/v1/exports", json={"format": "csv"}).json

    def full(_self: CsvTable) -> None:
        raise OSError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(CsvTable, "close", full)
        handle(runtime, ExportSessionData(export_id=uuid.UUID(asked["id"])))
    assert left(runtime) == []
    with runtime.store.transaction() as tx:
        tx.execute(text("UPDATE exports SET due_at = now()"))
    handle(runtime, ExportSessionData(export_id=uuid.UUID(asked["id"])))
    assert len(rows_of(api, asked)) == 1
