"""Session analysis: computed at the session's end, recomputed on request, removed with it."""

from __future__ import annotations

import json
import uuid
from typing import Any

import httpx
import numpy as np
import pytest
import structlog
from sqlalchemy import delete, text

from actors.analytics import analysis_answer
from actors.execution.runtime import Runtime
from actors.facts import noise_types
from actors.messaging.messages import AnalyzeSession
from actors.recovery import Recovery
from actors.science.summaries.session_analysis import Events
from db.queries import analysis_queries, session_queries
from db.queries.session_queries import NewDetectionRow
from db.tables.sessions import AudioSession
from services.cli.actions import analyses as analysis_actions
from services.client import Client
from tests.support import accounts, pipeline, recordings
from tests.support.api import Api
from tests.support.pipeline import handle, summary_of

pytestmark = pytest.mark.integration

CALIBRATION_DB = 100.0


def ended(runtime: Runtime, state: str = "completed", **values: Any) -> uuid.UUID:
    """Add an ended session that has no analysis yet."""
    session_id = pipeline.add(runtime, b"fLaC")
    with runtime.store.transaction() as tx:
        pipeline.put_into(tx, session_id, state, **{"duration_s": 90.0} | values)
    return session_id


def ask(api: Api, session_id: uuid.UUID, **body: Any) -> Any:
    return api.simulate_post(f"/v1/sessions/{session_id}/analysis", json=body)


def look(api: Api, session_id: uuid.UUID) -> Any:
    return api.simulate_get(f"/v1/sessions/{session_id}/analysis")


def runs(runtime: Runtime) -> list[tuple[str, str]]:
    with runtime.store.reading() as tx:
        rows = tx.execute(text("SELECT step, result FROM processing_metrics ORDER BY id"))
        return [(step, result) for step, result in rows]


def test_a_recording_through_the_pipeline(runtime: Runtime, api: Api) -> None:
    content = recordings.encode(recordings.long(1.2))
    session_id = pipeline.add(runtime, content, calibration_db=CALIBRATION_DB)
    session = pipeline.run_to_the_end(runtime, session_id)
    assert session.state == "completed"
    assert session.summary is not None

    analysis = look(api, session_id).json
    assert (analysis["state"], analysis["percent"], analysis["limits_db"]) == ("completed", 100, {})
    result = analysis["result"]
    assert result["level_reference"] == "dB SPL"
    assert result["duration_s"] == pytest.approx(72.0)
    assert result["events"] == summary_of(session).events > 3
    by_type = {each["noise_type"]: each for each in result["noise_types"]}
    assert {name: each["events"] for name, each in by_type.items()} == {
        name: each.events for name, each in summary_of(session).noise_types.items()
    }
    assert sum(result["confidence"]["events"]) == result["events"]
    for name, each in by_type.items():
        assert each["group"] == noise_types.group_of(name)
        assert 0 < each["heard_share"] <= 1
        assert each["heard_s"] <= each["total_s"] + 1e-3
        assert each["min_confidence"] <= each["mean_confidence"] <= each["max_confidence"]
        assert sum(result["minutes"]["events_begun"][name]) == each["events"]
        assert sum(result["minutes"]["heard_s"][name]) == pytest.approx(each["heard_s"], abs=0.01)

    # The minutes' levels, weighted by duration, give the overall level; energy shares likewise.
    energy = result["energy"]
    assert energy["laeq_db"] == pytest.approx(session.summary["laeq_db"], abs=0.02)
    minutes_db = np.array(result["minutes"]["laeq_db"])
    whole = (10 ** (minutes_db / 10) * [60.0, 12.0]).sum() / 72.0
    assert 10 * np.log10(whole) == pytest.approx(energy["laeq_db"], abs=0.02)
    parts = [*energy["noise_types"], energy["background"], energy["unheard"]]
    assert sum(part["share"] for part in parts) == pytest.approx(1, abs=1e-5)
    assert energy["unheard"] == {"share": 0.0, "laeq_db": None}
    alone = sum(10 ** (part["laeq_db"] / 10) for part in parts if part["laeq_db"] is not None)
    assert 10 * np.log10(alone) == pytest.approx(energy["laeq_db"], abs=0.02)

    with runtime.store.reading() as tx:
        loudest = max(event.lafmax_db or 0 for event in pipeline.detections_of(tx, session_id))
    assert result["loudest"][0]["lafmax_db"] == pytest.approx(loudest, abs=0.006)
    steps = {stage["step"]: stage for stage in result["processing"]["stages"]}
    assert list(steps) == ["process", "split", "detect", "aggregate"]
    assert steps["detect"]["runs"] == {"done": session.spans_total}
    assert result["processing"]["times_real_time"] > 0

    # Analyses stored before groups existed are still served.
    with runtime.store.transaction() as tx:
        tx.execute(text("UPDATE analyses SET result = result #- '{noise_types,0,group}'"))
    again = look(api, session_id)
    assert again.status_code == 200
    assert again.json["result"]["noise_types"][0]["group"] is None


def test_limits_that_are_asked_for(runtime: Runtime, api: Api) -> None:
    session_id = pipeline.add(
        runtime, recordings.encode(recordings.demo()), calibration_db=CALIBRATION_DB
    )
    pipeline.run_to_the_end(runtime, session_id)
    first = look(api, session_id).json["result"]
    levels = api.simulate_get(f"/v1/sessions/{session_id}/levels").json["series"]

    asked = ask(api, session_id, limits_db={"LAeq": [75, 65, 65], "LAFmax": 80})
    assert asked.status_code == 202
    assert asked.headers["location"] == f"/v1/sessions/{session_id}/analysis"
    assert (asked.json["state"], asked.json["result"]) == ("pending", None)
    assert asked.json["limits_db"] == {"LAeq": [65.0, 75.0], "LAFmax": [80.0]}
    assert look(api, session_id).json == asked.json
    handle(runtime, AnalyzeSession(session_id=session_id))

    result = look(api, session_id).json["result"]
    over = {(each["level"], each["limit_db"]): each for each in result["exceedances"]}
    for (level, limit_db), each in over.items():
        series = levels[f"{level.lower()}_db"]
        above = [second for second, level_db in enumerate(series) if level_db > limit_db]
        assert each["above_s"] == len(above)
        assert each["exceedances"] == sum(second - 1 not in above for second in above)
        assert each["longest_s"] <= each["above_s"]
        assert max([*each["heard_s"].values(), each["background_s"]]) <= each["above_s"]
    assert over["LAeq", 65.0]["above_s"] > over["LAeq", 75.0]["above_s"]
    assert len(over) == 3
    # Everything else is unchanged: recomputing gives the same result.
    assert result | {"exceedances": []} == first


@pytest.mark.parametrize(
    "limits_db",
    [{"LCeq": 65}, {"LAeq": "loud"}, {"LAeq": 1_000}, {"LAeq": [65.0] * 21}, [65], {"LAeq": None}],
)
def test_limits_that_are_none(runtime: Runtime, api: Api, limits_db: Any) -> None:
    refused = ask(api, ended(runtime), limits_db=limits_db)
    assert (refused.status_code, refused.json["type"]) == (400, "/problems/invalid-body")
    assert refused.json["errors"][0]["field"].startswith("limits_db")


def test_a_session_that_has_not_ended(runtime: Runtime, api: Api) -> None:
    session_id = pipeline.add(runtime, b"fLaC")
    refused = ask(api, session_id)
    assert (refused.status_code, refused.json["type"]) == (409, "/problems/not-finished")
    missing = look(api, session_id)
    assert (missing.status_code, missing.json["type"]) == (404, "/problems/no-analysis")


def test_a_session_of_somebody_else(runtime: Runtime, api: Api) -> None:
    session_id = ended(runtime)
    assert ask(api, session_id).status_code == 202
    with runtime.store.transaction() as tx:
        other = accounts.add_user(tx, uuid.uuid4(), "other@example.org")
        tx.execute(text("UPDATE audio_sessions SET user_id = :id"), {"id": other})
    for refused in (look(api, session_id), ask(api, session_id)):
        assert (refused.status_code, refused.json["type"]) == (404, "/problems/session-not-found")


def test_a_session_that_failed_has_no_sound_of_anybodys(runtime: Runtime, api: Api) -> None:
    session_id = ended(runtime, state="failed")
    assert ask(api, session_id).status_code == 202
    handle(runtime, AnalyzeSession(session_id=session_id))
    result = look(api, session_id).json["result"]
    assert (result["energy"], result["exceedances"], result["events"]) == (None, None, 0)
    assert result["minutes"]["laeq_db"] == [None, None]
    assert result["processing"]["stages"] == []


def test_what_was_lost_is_nobodys_sound(runtime: Runtime, api: Api) -> None:
    session_id = pipeline.split(runtime, recordings.encode(recordings.long(2.2)))
    with runtime.store.transaction() as tx:
        tx.execute(text("UPDATE session_spans SET attempt = 99 WHERE span_index = 1"))
    session = pipeline.run_to_the_end(runtime, session_id)
    assert session.state == "partial"
    result = look(api, session_id).json["result"]
    assert 0.1 < result["energy"]["unheard"]["share"] < 0.9
    assert result["processing"]["spans_failed"] == 1
    assert 50 < result["processing"]["missing_s"] < 70


def test_recovery_has_an_analysis_made_of_which_no_message_came(runtime: Runtime, api: Api) -> None:
    session_id = ended(runtime)
    ask(api, session_id)
    with runtime.store.transaction() as tx:
        tx.execute(text("UPDATE analyses SET nudged_at = now() - interval '1 hour'"))
    # No message waits: recovery sends none for a row that one in the queue may stand for.
    runtime.publisher.broker.flush_all()
    nudges = Recovery(runtime).round()
    assert AnalyzeSession(session_id=session_id) in nudges
    handle(runtime, AnalyzeSession(session_id=session_id))
    handle(runtime, AnalyzeSession(session_id=session_id))
    assert look(api, session_id).json["state"] == "completed"
    assert runs(runtime) == [("analyze", "done")]


def test_who_began_before_the_analysis_was_asked_for_again_is_too_late(
    runtime: Runtime, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    session_id = ended(runtime)
    ask(api, session_id, limits_db={"LAeq": 40})
    reckon = analysis_answer.document

    def asked_again(given: Any) -> Any:
        monkeypatch.undo()
        assert ask(api, session_id, limits_db={"LAeq": 50}).status_code == 202
        # Another worker claims it, so both hold the number of the first attempt.
        with runtime.store.transaction() as tx:
            assert analysis_queries.take_analysis(session_id, tx, lease_s=0.0) is not None
        return reckon(given)

    monkeypatch.setattr(analysis_answer, "document", asked_again)
    handle(runtime, AnalyzeSession(session_id=session_id))
    analysis = look(api, session_id).json
    assert (analysis["state"], analysis["limits_db"]) == ("pending", {"LAeq": [50.0]})
    assert runs(runtime) == [("analyze", "superseded")]
    handle(runtime, AnalyzeSession(session_id=session_id))
    assert look(api, session_id).json["state"] == "completed"


def test_a_session_that_is_removed_meanwhile_takes_its_analysis_with_it(
    runtime: Runtime, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    session_id = ended(runtime)
    ask(api, session_id)
    reckon = analysis_answer.document

    def removed(given: Any) -> Any:
        with runtime.store.transaction() as tx:
            tx.execute(delete(AudioSession).where(AudioSession.id == session_id))
        return reckon(given)

    monkeypatch.setattr(analysis_answer, "document", removed)
    with structlog.testing.capture_logs() as logs:
        handle(runtime, AnalyzeSession(session_id=session_id))
        handle(runtime, AnalyzeSession(session_id=session_id))
    told = [line["result"] for line in logs if line["event"] == "actor_run"]
    assert told == ["superseded", "nothing_to_do"]
    # Metrics outlive their session.
    assert runs(runtime) == [("analyze", "superseded")]
    with runtime.store.reading() as tx:
        assert tx.execute(text("SELECT count(*) FROM analyses")).scalar_one() == 0
    with runtime.store.transaction() as tx:
        assert not analysis_queries.ask_analysis(
            tx, session_id, asking_id=uuid.uuid4(), traceparent=None
        )


def test_events_are_read_as_they_stand(runtime: Runtime) -> None:
    session_id = ended(runtime)
    event = NewDetectionRow(
        start_s=1.0,
        end_s=2.0,
        noise_type="rain",
        confidence=0.5,
        laeq_db=None,
        lafmax_db=-3.0,
        candidates=[],
    )
    with runtime.store.transaction() as tx:
        session_queries.add_detections(tx, session_id, [event])
        events = Events.of(**analysis_queries.event_columns(tx, session_id))
    assert (events.types, events.lafmax_db.tolist()) == (("rain",), [-3.0])
    assert np.isnan(events.laeq_db).all()


def test_an_asking_is_known_again_until_the_next(runtime: Runtime) -> None:
    session_id, first, second = ended(runtime), uuid.uuid4(), uuid.uuid4()
    with runtime.store.transaction() as tx:
        for asking_id in (first, second):
            assert analysis_queries.ask_analysis(
                tx, session_id, asking_id=asking_id, traceparent=None
            )
            known = analysis_queries.asked_analysis(tx, asking_id, owner=accounts.TEAM)
            assert known is not None
            assert known.id == session_id
        assert analysis_queries.asked_analysis(tx, first) is None
        assert analysis_queries.asked_analysis(tx, second, owner=accounts.ADMIN) is None


def test_the_command_prints_tables_and_asks_where_there_is_nothing_to_print(
    runtime: Runtime, api: Api, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    session_id = pipeline.split(runtime, recordings.encode(recordings.demo()))
    pipeline.run_to_the_end(runtime, session_id)
    with runtime.store.transaction() as tx:
        tx.execute(text("DELETE FROM analyses"))
    client = Client("http://clamor", key=accounts.KEY, transport=httpx.WSGITransport(api.app))
    look_once = client.analysis

    def look_and_work(asked_id: object) -> Any:
        handle(runtime, AnalyzeSession(session_id=session_id))
        return look_once(asked_id)

    monkeypatch.setattr(client, "analysis", look_and_work)
    monkeypatch.setenv("COLUMNS", "200")

    def printed(**options: Any) -> str:
        asked: dict[str, Any] = {"limits": [], "as_json": False} | options
        assert analysis_actions.show(client, session_id, **asked) == 0
        return capsys.readouterr().out

    tables = printed()
    assert "by time and by sound energy" in tables
    assert "siren_sweep" in tables
    assert "Above the limits" not in tables
    assert "LAFmax -60 dBFS" in printed(limits=[("LAFmax", -60.0)])
    result = json.loads(printed(as_json=True).splitlines()[-1])
    assert result["exceedances"][0]["limit_db"] == -60.0
    client.close()
