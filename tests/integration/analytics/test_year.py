"""The API reads the generated benchmark year like any other sessions."""

from __future__ import annotations

import itertools
import uuid
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import text

from actors.execution.runtime import Runtime
from actors.science.levels.levels import LevelHistory
from actors.science.summaries import local_day
from db import migrate
from db.queries import session_queries
from db.store import Store
from db.tables.sessions import SESSION_STATES, UNFINISHED_STATES
from tests.benchmarks import year, year_plan
from tests.support.api import Api
from tests.support.pipeline import summary_of

pytestmark = pytest.mark.integration

PLAN = year_plan.Plan(
    until=datetime(2026, 11, 1, 5, 30, tzinfo=UTC), n_sessions=200, n_detections=3_000
)


@pytest.fixture
def filled(database_url: str) -> str:
    year.fill(database_url, PLAN)
    return database_url


def items(admin: Api, path: str) -> list[dict[str, Any]]:
    answered = admin.simulate_get(path)
    assert answered.status_code == 200, answered.text
    assert answered.json["next_cursor"] is None
    found: list[dict[str, Any]] = answered.json["items"]
    return found


@pytest.mark.usefixtures("filled")
def test_its_sessions_and_events_are_read_as_any_others(admin: Api) -> None:
    sessions = items(admin, "/v1/sessions?limit=1000")
    assert len(sessions) == PLAN.n_sessions
    states = Counter(session["state"] for session in sessions)
    assert {*UNFINISHED_STATES, "completed", "partial", "failed"} <= {*states} <= {*SESSION_STATES}
    assert {session["calibration_db"] is None for session in sessions} == {True, False}
    n_events = 0
    for session in sessions:
        events = items(admin, f"/v1/sessions/{session['id']}/detections?limit=10000")
        n_events += len(events)
        assert admin.simulate_get(f"/v1/sessions/{session['id']}").json["id"] == session["id"]
        summary = session["summary"]
        assert (summary is not None) == (session["state"] in ("completed", "partial"))
        assert (session["problem"] is not None) == (session["state"] in ("partial", "failed"))
        if summary is None:
            assert not events
            continue
        by_type = Counter(event["noise_type"] for event in events)
        told = {name: entry["events"] for name, entry in summary["noise_types"].items()}
        assert (summary["events"], told) == (len(events), dict(by_type))
        assert all(
            before["end_s"] <= after["start_s"] for before, after in itertools.pairwise(events)
        )
        assert not events or events[-1]["end_s"] <= session["duration_s"]
    assert n_events == PLAN.n_detections


def test_it_keeps_to_every_constraint_and_is_the_same_each_time(filled: str, store: Store) -> None:
    # Foreign keys and indexes match the models; they were rebuilt after the rows were loaded.
    assert migrate.drift(filled) == []
    again = year_plan.plan_recordings(PLAN, year_plan.generator(PLAN))
    with store.transaction() as tx:
        found = tx.execute(text("SELECT id FROM audio_sessions ORDER BY created_at, id")).scalars()
        assert sorted(found) == sorted(recording.id for recording in again)
        used = tx.execute(text("SELECT sum(sessions) FROM usage_months")).scalar_one()
        assert 0 < used <= PLAN.n_sessions


def test_no_row_is_looked_for_in_a_whole_table_when_another_goes(store: Store) -> None:
    """An index starts with each foreign key, so cascades need no table scan.

    Models are never removed, and an index of their sessions would cost each session an update of
    all its indexes.
    """
    with store.transaction() as tx:
        without = tx.execute(
            text("""
            SELECT conname FROM pg_constraint
            WHERE contype = 'f' AND NOT EXISTS (
                SELECT FROM pg_index
                WHERE indrelid = conrelid
                  AND (indkey::int2[])[0:cardinality(conkey) - 1] @> conkey
                  AND coalesce(pg_get_expr(indpred, indrelid) LIKE '%IS NOT NULL%', true))
        """)
        ).scalars()
        assert [*without] == ["fk_audio_sessions_model_id"]


def test_its_levels_are_as_long_and_as_loud_as_its_rows_say(filled: str, runtime: Runtime) -> None:
    with runtime.store.transaction() as tx:
        session_id: uuid.UUID = tx.execute(
            text("SELECT id FROM audio_sessions WHERE quarter_mean_squares IS NOT NULL LIMIT 1")
        ).scalar_one()
        row = session_queries.get_session(tx, session_id)
    assert row is not None
    assert row.summary is not None
    year.write_blobs(runtime.blobs, [row])
    levels = LevelHistory.from_bytes(runtime.blobs.get(row.levels_key or ""))
    assert levels.duration_s == pytest.approx(row.duration_s, abs=1e-3)
    laeq_db = summary_of(row).laeq_db
    assert laeq_db is not None
    expected = laeq_db - (row.calibration_db or 0.0)
    assert levels.laeq_db() == pytest.approx(expected, abs=0.02)
    assert row.recorded_at is not None
    lead_s = local_day.lead_s(row.recorded_at)
    quarters = levels.on_grid(step_s=local_day.QUARTER_S, lead_s=lead_s).tolist()
    assert row.quarter_mean_squares == pytest.approx(quarters, rel=1e-3)
