"""Reports of a day."""

from __future__ import annotations

import json
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta

import pytest
from sqlalchemy import text

from actors.execution.runtime import Runtime
from actors.messaging import messages
from actors.messaging.messages import GenerateDailyReport, StartDailyReports
from actors.recovery import take_stalled
from actors.scheduling import jobs
from actors.science.summaries import local_day
from db.queries import report_queries, request_queries
from db.queries.request_queries import RequestRow
from db.tables.documents.sessions import Summary
from tests.integration.analytics.reported import BERLIN, made, session
from tests.support import accounts, partitions
from tests.support.accounts import ADMIN_KEY, TEAM
from tests.support.api import Api, App
from tests.support.pipeline import handle

pytestmark = pytest.mark.integration


def test_noise_types_stand_by_falling_number_of_events_then_by_name(
    api: Api, runtime: Runtime
) -> None:
    """The database's collation would put the shorter name first."""
    events = {"rooster": [1, 2, 3], "b": [4], "a": [5, 6], "wind": [7], "ab": [8, 9]}
    events |= {"truck_bus": [10]}
    session_id = session(runtime, "2026-10-25T00:30Z", events=events)  # type: ignore[arg-type]
    wanted = ["rooster", "a", "ab", "b", "truck_bus", "wind"]
    assert list(made(api, runtime)["report"]["detections"]["by_type"]) == wanted
    groups = made(api, runtime)["report"]["detections"]["by_group"]
    assert [(name, each["events"], each["total_s"]) for name, each in groups.items()] == [
        ("nature", 4, 8.0),
        ("traffic", 1, 2.0),
    ]
    assert sum(groups["nature"]["by_hour"]) == 4
    page = api.simulate_get("/v1/reports").json["items"][0]["id"]
    shown = api.simulate_get(f"/v1/reports/{page}/html").text
    places = [shown.index(f">{name.replace('_', ' ')}<") for name in wanted]
    assert places == sorted(places)
    heard = {
        name: {"events": len(some), "total_s": 1.0, "max_confidence": 0.9}
        for name, some in events.items()
    }
    summary = dict.fromkeys(Summary.__struct_fields__) | {
        "events": 9,
        "noise_types": heard,
        "level_reference": "dBFS",
        "model": {},
        "unused_types": [],
        "audio_begins_s": 0.0,
    }
    with runtime.store.transaction() as tx:
        tx.execute(
            text("UPDATE audio_sessions SET summary = CAST(:summary AS jsonb) WHERE id = :id"),
            {"summary": json.dumps(summary), "id": session_id},
        )
    shown_session = api.simulate_get(f"/v1/sessions/{session_id}").json
    assert list(shown_session["summary"]["noise_types"]) == wanted
    listed = api.simulate_get("/v1/sessions").json["items"][0]
    assert list(listed["summary"]["noise_types"]) == wanted


def test_a_report_has_the_overload_of_the_day(api: Api, runtime: Runtime) -> None:
    session(
        runtime,
        "2026-10-25T08:00Z",
        quarters=[1e-4, 1e-4],
        overloads=[0.1, 0.0],
        overload_energies=[0.5, 0.0],
    )
    # One that was processed before overload was measured.
    session(runtime, "2026-10-25T10:00Z", quarters=[1e-4, 1e-4])
    [sound] = made(api, runtime)["report"]["sound"]
    assert sound["overload"] == {"overloaded_s": 90.0, "share": 0.05, "energy_share": 0.25}


def test_a_hole_is_neither_covered_nor_silence(api: Api, runtime: Runtime) -> None:
    hole = {"start_s": 600.0, "end_s": 1_800.0, "kind": "gap"}
    session(runtime, "2026-10-25T08:00Z", minutes=45, quarters=[1e-4, 0.0, 1e-4], holes=[hole])
    [sound] = made(api, runtime)["report"]["sound"]
    assert sound["laeq_db"] == -40.0
    assert sound["covered"]["whole"] == pytest.approx(1_500 / 90_000, abs=1e-4)


def test_a_report_tells_what_happened(api: Api, runtime: Runtime) -> None:
    # The hour from two to three occurs twice on this day; one recording is in the second.
    session(runtime, "2026-10-25T00:30Z", events={"siren": [0, 1_790]}, laeq_db=-40.0)
    session(runtime, "2026-10-25T01:10Z", minutes=20, events={"siren": [5], "dog": [6, 7]})
    # It starts on the evening before; one hour of it belongs to this day.
    session(
        runtime,
        "2026-10-24T21:30Z",
        minutes=90,
        events={"dog": [0, 3_000]},
        quarters=[1e-9, 1e-9, 1e-4, 1e-4, 1e-4, 1e-4],
    )
    session(runtime, "2026-10-25T12:00Z", calibration_db=94.0, laeq_db=64.0)
    session(runtime, None, created_at="2026-10-25T15:00Z", minutes=6)
    problem = {"code": "unknown-format", "detail": "what is it?"}
    session(runtime, "2026-10-25T16:00Z", state="failed", problem=problem)
    # One of the next day, and one of another user.
    session(runtime, "2026-10-25T23:00Z", events={"dog": [0]})
    session(runtime, "2026-10-25T09:00Z", user_id=accounts.ADMIN, events={"dog": [0]})
    # A week before, and the day before.
    session(runtime, "2026-10-18T10:00Z", events={"dog": [0, 9]}, laeq_db=-20.0)
    session(runtime, "2026-10-24T10:00Z", minutes=60, laeq_db=-20.0)
    received = datetime(2026, 10, 25, 22, 59, tzinfo=UTC)
    partitions.add_since(runtime.settings.database_url, received)
    asked = RequestRow("r", "GET", "/v1/usage", 404, 0.1, 5, 7, "1" * 16, TEAM, None, received)
    with runtime.store.transaction() as tx:
        later = asked._replace(received_at=received + timedelta(minutes=1))
        request_queries.add_requests(tx, [asked, asked, later])

    found = made(api, runtime)
    assert (found["starts_at"], found["ends_at"]) == (
        "2026-10-24T22:00:00Z",
        "2026-10-25T23:00:00Z",
    )
    report = found["report"]
    assert report["sessions"] == {
        "total": 5,
        "by_state": {"completed": 4, "failed": 1},
        "without_recorded_at": 1,
    }
    assert report["audio_hours"] == round((30 + 20 + 30 + 6) / 60, 3)
    hours = {each["label"]: each for each in report["hours"]}
    assert len(hours) == len(report["hours"]) == 25
    assert hours["02:00+02:00"]["detections"] == 2
    assert hours["02:00+01:00"]["detections"] == 3
    # The second detection of a recording that began the day before.
    assert hours["00:00+02:00"]["detections"] == 1
    by_type = report["detections"]["by_type"]
    assert {name: each["events"] for name, each in by_type.items()} == {"dog": 3, "siren": 3}
    assert {name: each["group"] for name, each in by_type.items()} == {
        "dog": None,
        "siren": "other",
    }
    of_siren = {name: figure for name, figure in by_type["siren"].items() if name != "group"}
    # Types outside the groups are not in the sums.
    assert report["detections"]["by_group"] == {"other": of_siren}
    assert report["detections"]["total"] == 6
    assert [each["label"] for each in report["busiest_hours"]] == [
        "02:00+01:00",
        "02:00+02:00",
        "00:00+02:00",
    ]
    sounds = {each["level_reference"]: each for each in report["sound"]}
    assert sounds["dB SPL"]["lday_db"] == 64.0
    assert sounds["dB SPL"]["lden_db"] is None
    full_scale = sounds["dBFS"]
    assert full_scale["hours"][0] == {"laeq_db": -40.0, "covered": 1.0}
    assert full_scale["hours"][2]["laeq_db"] == -40.0
    assert full_scale["hours"][3] == {"laeq_db": -30.0, "covered": round(1 / 3, 4)}
    assert full_scale["covered"]["whole"] == round(110 / 60 / 25, 4)
    assert report["problems"] == [{"code": "unknown-format", "sessions": 1}]
    assert report["latency"] == {
        "sessions": 4,
        "p50_s": 12.0,
        "p95_s": 12.0,
        "times_real_time_p50": 125.0,
    }
    [usage] = report["api_usage"]
    assert (usage["key_id"], usage["requests"], usage["errors"]) == ("1" * 16, 2, 2)
    compared = report["compared"]
    assert compared["week_ago"] | {"levels": None} == {
        "day": "2026-10-18",
        "sessions": 1,
        "audio_hours": 0.5,
        "detections": 2,
        "levels": None,
    }
    assert compared["week_ago"]["levels"]["dBFS"]["lday_db"] == -20.0
    mean = compared["mean_of_days_before"]
    # Two of the seven days before have sessions; one of the two days has two sessions.
    assert (mean["days"], mean["sessions"], mean["detections"]) == (2, 1.5, 1.5)
    assert mean["levels"]["dBFS"]["lday_db"] == -20.0
    # The report for all users includes the other user's sessions.
    everybody = made(accounts.client(api.app, ADMIN_KEY), runtime, all_users=True)
    assert (everybody["user_id"], everybody["report"]["sessions"]["total"]) == (None, 6)
    assert api.simulate_get(f"/v1/reports/{everybody['id']}").status_code == 404


def test_a_day_with_nothing_is_told_too(api: Api, runtime: Runtime) -> None:
    found = made(api, runtime, day="1985-03-31")
    report = found["report"]
    assert (len(report["hours"]), report["detections"]["total"], report["sound"]) == (23, 0, [])
    assert report["compared"]["mean_of_days_before"] is None
    page = api.simulate_get(f"/v1/reports/{found['id']}/html")
    assert "Nothing." in page.text


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"time_zone": "Europe/Nowhere"}, "time_zone"),
        ({"time_zone": "../../etc/passwd"}, "time_zone"),
        ({"time_zone": "version"}, "time_zone"),
        ({"time_zone": "tzdata.zi"}, "time_zone"),
        ({"time_zone": "posixrules"}, "time_zone"),
        ({"day": "2999-01-01"}, "day"),
        ({"day": "9999-12-31"}, "day"),
        ({"day": "0001-01-01", "time_zone": "Asia/Tokyo"}, "day"),
        ({"day": "2011-12-30", "time_zone": "Pacific/Apia"}, "day"),
        ({"day": "yesterday"}, "day"),
    ],
)
def test_a_day_that_is_none_is_refused(api: Api, changed: dict[str, str], field: str) -> None:
    refused = api.simulate_post("/v1/reports", json=BERLIN | changed)
    assert (refused.status_code, refused.json["type"]) == (400, "/problems/invalid-body")
    assert [each["field"] for each in refused.json["errors"]] == [field]


def test_everybodys_report_is_for_administrators(api: Api) -> None:
    refused = api.simulate_post("/v1/reports", json=BERLIN | {"all_users": True})
    assert (refused.status_code, refused.json["type"]) == (403, "/problems/missing-scope")


def test_there_is_one_report_of_a_day_a_zone_and_a_user(runtime: Runtime) -> None:
    its = local_day.day_of(date(2026, 3, 14), "UTC")

    def ask(index: int) -> uuid.UUID:
        with runtime.store.transaction() as tx:
            return report_queries.ask_for_report(
                tx,
                id=uuid.uuid4(),
                day=its.date,
                time_zone="UTC",
                user_id=(None, TEAM)[index % 2],
                starts_at=its.begin,
                ends_at=its.end,
            )

    with ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(ask, range(24)))
    assert len(set(ids)) == 2
    for each in ids[:2] * 2:
        handle(runtime, GenerateDailyReport(report_id=each))
    with runtime.store.transaction() as tx:
        runs = tx.execute(text("SELECT job_id, result FROM processing_metrics")).all()
    # One run each: a repeated message finds nothing to do.
    assert sorted(runs) == sorted((each, "done") for each in ids[:2])


def test_late_data_makes_a_report_stale(api: Api, runtime: Runtime) -> None:
    kept = session(runtime, "2026-10-25T10:00Z")
    working = session(runtime, "2026-10-24T21:45Z", state="detecting")

    def is_stale() -> bool:
        [item] = api.simulate_get("/v1/reports").json["items"]
        one = api.simulate_get(f"/v1/reports/{item['id']}").json
        assert one["is_stale"] == item["is_stale"]
        assert "report" not in item
        return bool(one["is_stale"])

    def change(statement: str, of: uuid.UUID, *, key: str = "id") -> None:
        with runtime.store.transaction() as tx:
            tx.execute(text(f"{statement} WHERE {key} = :id"), {"id": of})

    first = made(api, runtime)
    assert not is_stale()
    # Sessions of another day or another user change nothing.
    session(runtime, "2026-10-26T10:00Z")
    session(runtime, "2026-10-25T10:00Z", user_id=accounts.ADMIN)
    assert not is_stale()
    # It ends now, and overlaps the day.
    change("UPDATE audio_sessions SET state = 'completed'", working)
    change("UPDATE session_results SET duration_s = 3600", working, key="session_id")
    assert is_stale()
    second = made(api, runtime)
    assert second["id"] == first["id"]
    assert second["made_at"] > first["made_at"]
    assert not is_stale()
    session(runtime, "2026-10-25T11:00Z", state="queued")
    assert is_stale()
    made(api, runtime)
    change("DELETE FROM audio_sessions", kept)
    assert is_stale()
    # While it is regenerated, the previous report is served and still marked stale.
    asked = api.simulate_post("/v1/reports", json=BERLIN).json
    assert (asked["state"], asked["is_stale"], asked["percent"]) == ("pending", True, 0)
    assert "report" not in asked
    kept_one = api.simulate_get(f"/v1/reports/{asked['id']}").json
    assert kept_one["report"]["sessions"]["total"] == 2
    assert api.simulate_get(f"/v1/reports/{asked['id']}/html").status_code == 200


def test_a_report_of_a_day_that_goes_on_is_stale(api: Api, runtime: Runtime) -> None:
    today = datetime.now(UTC).date().isoformat()
    assert made(api, runtime, day=today, time_zone="UTC")["is_stale"]


def test_a_lost_message_and_a_dead_worker_are_made_good(api: Api, runtime: Runtime) -> None:
    asked = api.simulate_post("/v1/reports", json=BERLIN).json
    with runtime.store.transaction() as tx:
        found = take_stalled(tx, unnudged_s=0, limit=10)
    assert found == [GenerateDailyReport(report_id=uuid.UUID(asked["id"]))]
    handle(runtime, found[0])
    assert api.simulate_get(f"/v1/reports/{asked['id']}").json["state"] == "completed"


def test_reports_go_with_their_user(runtime: Runtime, app: App) -> None:
    somebody = uuid.uuid4()
    with runtime.store.transaction() as tx:
        accounts.add_user(tx, somebody, "somebody@example.org")
        api = accounts.client(app, accounts.add_key(tx, somebody, ("reports:read",)))
    made(api, runtime)
    made(accounts.client(app, ADMIN_KEY), runtime, all_users=True)
    with runtime.store.transaction() as tx:
        tx.execute(text("DELETE FROM users WHERE id = :id"), {"id": somebody})
        # The report for all users stays; the deleted user's has not become a second one.
        assert tx.execute(text("SELECT user_id FROM daily_reports")).scalars().all() == [None]


def test_the_clock_has_yesterdays_reports_made(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    slot = datetime.now(UTC).replace(hour=1, minute=0, second=0, microsecond=0)
    yesterday = slot - timedelta(days=1)
    session(runtime, yesterday.replace(hour=10).isoformat())
    job = jobs.job_named(StartDailyReports.actor)
    assert job is not None
    assert (job.cron, job.catch_up) == ("0 1 * * *", 31)
    sent: list[messages.Nudge] = []
    monkeypatch.setattr(runtime.publisher, "send", lambda *nudges: sent.extend(nudges))
    monkeypatch.setattr(jobs.PeriodicJob, "latest_slot", lambda _job, _now: slot)
    handle(runtime, StartDailyReports())
    nudges = [nudge for nudge in sent if isinstance(nudge, GenerateDailyReport)]
    assert len(nudges) == 2
    for nudge in nudges:
        handle(runtime, nudge)
    with runtime.store.transaction() as tx:
        rows = tx.execute(
            text("SELECT day, time_zone, user_id, state FROM daily_reports ORDER BY user_id")
        ).all()
        result = tx.execute(text("SELECT result FROM job_runs")).scalar_one()
    assert rows == [
        (yesterday.date(), "UTC", TEAM, "completed"),
        (yesterday.date(), "UTC", None, "completed"),
    ]
    assert result == {"day": yesterday.date().isoformat(), "reports": 2}
