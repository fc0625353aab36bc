"""Sessions of a day, and reports about it."""

from __future__ import annotations

import json
import math
import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import text

from actors.execution.runtime import Runtime
from actors.messaging.messages import GenerateDailyReport
from actors.science.summaries import local_day
from db.tables.session_results import FINAL_STATES
from tests.support.accounts import TEAM
from tests.support.api import Api
from tests.support.pipeline import handle

BERLIN = {"day": "2026-10-25", "time_zone": "Europe/Berlin"}


def session(
    runtime: Runtime,
    at: str | None,
    *,
    minutes: float = 30,
    user_id: uuid.UUID = TEAM,
    state: str = "completed",
    events: dict[str, list[float]] | None = None,
    created_at: str | None = None,
    laeq_db: float = -30.0,
    **values: Any,
) -> uuid.UUID:
    """Add a session recorded at ``at``, of one level; ``events`` maps each type to its onsets."""
    ended = state in ("completed", "partial")
    row: dict[str, Any] = {
        "id": uuid.uuid4(),
        "user_id": user_id,
        "state": state,
        "at": at,
        "created_at": created_at or at,
        "duration_s": 60 * minutes if ended else None,
        "calibration_db": None,
        "problem": None,
        "quarters": None,
        "overloads": None,
        "overload_energies": None,
        "holes": None,
        "took_s": 12.0,
    } | values
    if ended and at is not None and row["quarters"] is None:
        lead_s = local_day.lead_s(datetime.fromisoformat(at))
        n_quarters = math.ceil((lead_s + 60 * minutes) / local_day.QUARTER_S)
        row["quarters"] = n_quarters * [10 ** ((laeq_db - (row["calibration_db"] or 0.0)) / 10)]
    with runtime.store.transaction() as tx:
        tx.execute(
            text("""
                INSERT INTO audio_sessions (id, user_id, file_name, recording_key, state,
                    recorded_at, created_at, calibration_db, problem,
                    quarter_mean_squares, quarter_overloads, quarter_overload_energies,
                    holes)
                VALUES (:id, :user_id, 'a.wav', 'x', :state, :at, :created_at,
                    :calibration_db, CAST(:problem AS jsonb), :quarters,
                    :overloads, :overload_energies, CAST(:holes AS jsonb))"""),
            row | {name: row[name] and json.dumps(row[name]) for name in ("problem", "holes")},
        )
        tx.execute(
            text("""
                INSERT INTO session_results (session_id, user_id, created_at, duration_s, outcome,
                    finished_at)
                SELECT id, user_id, created_at, :duration_s, final.state,
                    CASE WHEN final.state IS NOT NULL
                        THEN created_at + make_interval(secs => :took_s) END
                FROM audio_sessions
                LEFT JOIN unnest(CAST(:final AS text[])) AS final(state) USING (state)
                WHERE id = :id"""),
            row | {"final": list(FINAL_STATES)},
        )
        onsets = [(kind, at_s) for kind, some in (events or {}).items() for at_s in some]
        for index, (kind, start_s) in enumerate(onsets):
            tx.execute(
                text("""
                    INSERT INTO noise_detections (session_id, event_index, start_s, end_s,
                        noise_type, confidence)
                    VALUES (:id, :index, :start, :start + 2, :kind, 0.9)"""),
                {"id": row["id"], "index": index, "start": start_s, "kind": kind},
            )
    return uuid.UUID(str(row["id"]))


def made(api: Api, runtime: Runtime, **asked: Any) -> dict[str, Any]:
    """Request a report, generate it and return it."""
    answered = api.simulate_post("/v1/reports", json=BERLIN | asked)
    assert answered.status_code == 202, answered.json
    handle(runtime, GenerateDailyReport(report_id=uuid.UUID(answered.json["id"])))
    found: dict[str, Any] = api.simulate_get(answered.headers["location"]).json
    assert (found["state"], found["percent"], found["problem"]) == ("completed", 100, None)
    return found
