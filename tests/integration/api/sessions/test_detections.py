"""Detections of all sessions: filters, orders, one by its ID, and sums."""

from __future__ import annotations

import json
import math
import random
import uuid
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from db.queries import detection_queries, session_queries
from db.queries.detection_queries import DetectionFilter, UnknownTimeZone
from db.store import Store
from tests.integration.api.sessions.listed import (
    BEGIN,
    MIDDLE,
    NATURE,
    STRANGER,
    TYPES,
    Row,
    add_rows,
    add_sessions,
    add_stranger,
    one_session,
    walk,
)
from tests.support import accounts
from tests.support.accounts import ADMIN_KEY
from tests.support.api import Api, App

pytestmark = pytest.mark.integration

TIMES = st.sampled_from(
    [None, BEGIN, MIDDLE, MIDDLE + timedelta(microseconds=1), BEGIN + timedelta(seconds=30)]
)
FILTERS = st.fixed_dictionaries(
    {
        "heard_from": TIMES,
        "heard_to": TIMES,
        "created_from": TIMES,
        "noise_type": st.sampled_from([None, "siren", "nature", ["rain", "traffic"]]),
        "min_confidence": st.sampled_from([None, 0.0, 0.5, 0.75, 1.0]),
        "min_laeq_db": st.sampled_from([None, -60.0, -20.0, -7.25]),
        "metadata": st.sampled_from([None, {"site": "roof"}, {"floor": 3}, {"floor": "3"}]),
        "session_id": st.sampled_from([None, 0, -1]),
    }
)
BELOW = {"siren": ["siren"], "nature": NATURE, "rain": ["rain"], "traffic": ["helicopter"]}


@pytest.fixture
def rows(api: Api, store: Store) -> list[Row]:
    return add_rows(store)


def parameters(asked: Row, rows: list[Row]) -> Row:
    """Return filters as the parameters of a request."""
    given = {name: value for name, value in asked.items() if value is not None}
    for name, value in given.items():
        if isinstance(value, datetime):
            given[name] = value.isoformat()
    if "metadata" in given:
        given["metadata"] = json.dumps(given["metadata"])
    if "session_id" in given:
        given["session_id"] = str(rows[given["session_id"]]["id"])
    return given


def matches(session: Row, event: Row, asked: Row, rows: list[Row]) -> bool:
    """Return whether an event matches all filters, by plain comparisons."""
    names = asked["noise_type"]
    wanted = [
        kind
        for name in ([names] if isinstance(names, str) else names or ())
        for kind in BELOW[name]
    ]
    heard_at, laeq_db = event["heard_at"], event["laeq_db"]
    has_time = not (asked["heard_from"] or asked["heard_to"]) or heard_at is not None
    return (
        has_time
        and (asked["heard_from"] is None or heard_at >= asked["heard_from"])
        and (asked["heard_to"] is None or heard_at < asked["heard_to"])
        and (asked["created_from"] is None or session["created_at"] >= asked["created_from"])
        and (names is None or event["noise_type"] in wanted)
        and event["confidence"] >= (asked["min_confidence"] or 0.0)
        and (
            asked["min_laeq_db"] is None
            or (laeq_db is not None and laeq_db >= asked["min_laeq_db"])
        )
        and (asked["metadata"] or {}).items() <= session["user_metadata"].items()
        and (asked["session_id"] is None or session is rows[asked["session_id"]])
    )


def test_filters_find_the_detections_that_plain_comparisons_find(api: Api, rows: list[Row]) -> None:
    @given(FILTERS, st.sampled_from(["heard_at", "-heard_at", "-created_at"]))
    @settings(deadline=None, suppress_health_check=list(HealthCheck))
    def check(asked: Row, sort: str) -> None:
        walked = walk(api, "/v1/detections", sort=sort, limit=23, **parameters(asked, rows))
        expected = {
            (str(session["id"]), event["event_index"]): event
            for session in rows
            for event in session["events"]
            if matches(session, event, asked, rows)
        }
        assert sorted((each["session_id"], each["start_s"]) for each in walked) == sorted(
            (session_id, event["start_s"]) for (session_id, _), event in expected.items()
        )
        if sort != "-created_at":
            times = [each["heard_at"] for each in walked if each["heard_at"] is not None]
            assert [each["heard_at"] for each in walked[: len(times)]] == times
            moments = [datetime.fromisoformat(each) for each in times]
            assert moments == sorted(moments, reverse=sort.startswith("-"))

    check()


def test_a_detection_is_found_by_its_id(api: Api, rows: list[Row]) -> None:
    listed = walk(api, "/v1/detections", limit=100)
    assert len({each["id"] for each in listed}) == len(listed)
    path = f"/v1/detections/{listed[3]['id']}"
    found = api.simulate_get(path)
    assert found.json == listed[3]
    session = f"/v1/sessions/{listed[3]['session_id']}/detections"
    assert listed[3]["id"] in [each["id"] for each in api.simulate_get(session).json["items"]]
    again = api.simulate_get(path, headers={"If-None-Match": found.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    head = api.simulate_head(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["etag"] == found.headers["etag"]
    unknown = api.simulate_get(f"/v1/detections/{uuid.uuid4()}")
    assert (unknown.status_code, unknown.json["type"]) == (404, "/problems/detection-not-found")


def test_users_see_their_own_detections_only(app: App, api: Api, store: Store) -> None:
    rows = add_rows(store)
    with store.transaction() as tx:
        stranger = accounts.client(app, accounts.add_key(tx, STRANGER))
    own, others = (walk(each, "/v1/detections", sort="heard_at") for each in (api, stranger))
    everything = walk(accounts.client(app, ADMIN_KEY), "/v1/detections", sort="heard_at", limit=50)
    sessions = {str(row["id"]) for row in rows}
    assert {each["session_id"] for each in own} <= sessions
    assert not {each["session_id"] for each in others} & sessions
    assert others
    key = [each["id"] for each in everything]
    assert sorted(key) == sorted(each["id"] for each in own + others)
    for path in (f"/v1/detections/{own[0]['id']}", f"/v1/detections/{own[0]['id']}/clip.flac"):
        refused = stranger.simulate_get(path)
        assert (refused.status_code, refused.json["type"]) == (404, "/problems/detection-not-found")
    named = f"/v1/detections?session_id={own[0]['session_id']}"
    assert stranger.simulate_get(named).json["items"] == []
    summed = summary(stranger, by="type", heard_from=BEGIN, heard_to=BEGIN + timedelta(days=1))
    timed = [each for each in others if each["heard_at"] is not None]
    assert sum(each["events"] for each in summed["items"]) == len(timed)


# --- sums --------------------------------------------------------------------------------------

#: A day of 23 hours, a day of 25, a zone with an offset of 45 minutes, and one whose name Postgres
#: also has as the abbreviation of an offset without summer time.
ZONES = (
    ("Europe/Berlin", datetime(2026, 3, 28, 18, tzinfo=UTC)),
    ("Europe/Berlin", datetime(2026, 10, 24, 18, tzinfo=UTC)),
    ("Australia/Lord_Howe", datetime(2026, 4, 4, 6, tzinfo=UTC)),
    ("Asia/Kathmandu", datetime(2026, 4, 4, tzinfo=UTC)),
    ("CET", datetime(2026, 7, 4, tzinfo=UTC)),
    ("UTC", datetime(2026, 4, 4, tzinfo=UTC)),
)


def summary(api: Api, **asked: Any) -> Row:
    """Return a summary, and check that it is cached."""
    for name, value in asked.items():
        asked[name] = value.isoformat() if isinstance(value, datetime) else value
    path = f"/v1/detections/summary?{urlencode(asked)}"
    found = api.simulate_get(path)
    assert found.status_code == 200, found.text
    again = api.simulate_get(path, headers={"If-None-Match": found.headers["etag"]})
    assert again.status_code == 304
    assert api.simulate_head(path).headers["etag"] == found.headers["etag"]
    answered: Row = found.json
    return answered


def add_days(store: Store, rng: random.Random, begin: datetime) -> list[Row]:
    """Add sessions in two days, with and without a calibration; return their events."""
    found = []
    for n in range(40):
        recorded_at = rng.choice((None, begin + timedelta(seconds=rng.uniform(0, 2 * 86_400))))
        session = one_session(rng, n, state="completed", recorded_at=recorded_at)
        session["calibration_db"] = rng.choice((None, 100.0))
        events: list[Any] = [
            {
                "start_s": float(at),
                "end_s": at + rng.choice((0.5, 3.0)),
                "noise_type": rng.choice(TYPES),
                "confidence": 0.5,
                "laeq_db": rng.choice((None, 40.25, 60.0)),
                "lafmax_db": rng.choice((None, 55.5, 70.0)),
            }
            for at in range(0, rng.randrange(4_000), 700)
        ]
        with store.transaction() as tx:
            add_sessions(tx, [session])
            session_queries.add_detections(tx, session["id"], events)
        if recorded_at is not None:
            found += [
                event
                | {
                    "heard_at": recorded_at + timedelta(seconds=event["start_s"]),
                    "reference": "dB SPL" if session["calibration_db"] else "dBFS",
                }
                for event in events
            ]
    return found


def key_of(event: Row, by: str, zone: ZoneInfo) -> Any:
    local = event["heard_at"].astimezone(zone)
    if by == "type":
        return event["noise_type"]
    if by == "day":
        return local.replace(hour=0, minute=0, second=0, microsecond=0, fold=0).astimezone(UTC)
    # Of the same offset, so that an hour that occurs twice is two hours.
    into = timedelta(minutes=local.minute, seconds=local.second, microseconds=local.microsecond)
    return event["heard_at"] - into


def level(values: list[Row]) -> float | None:
    energy = sum(
        (each["end_s"] - each["start_s"]) * 10 ** (each["laeq_db"] / 10)
        for each in values
        if each["laeq_db"] is not None
    )
    total_s = sum(each["end_s"] - each["start_s"] for each in values)
    return None if energy == 0 else 10 * math.log10(energy / total_s)


@pytest.mark.parametrize(("name", "begin"), ZONES)
def test_sums_are_those_of_the_listed_detections(
    api: Api, store: Store, name: str, begin: datetime
) -> None:
    zone = ZoneInfo(name)
    events = add_days(store, random.Random(8), begin)
    heard_from, heard_to = begin + timedelta(hours=1), begin + timedelta(hours=40, minutes=20)
    within = [event for event in events if heard_from <= event["heard_at"] < heard_to]
    assert within
    for by in ("hour", "day", "type"):
        expected: defaultdict[Any, list[Row]] = defaultdict(list)
        for event in within:
            expected[key_of(event, by, zone)].append(event)
        found = summary(api, by=by, heard_from=heard_from, heard_to=heard_to, time_zone=name)
        assert (found["by"], found["time_zone"]) == (by, name)
        keys = [
            each["noise_type"] or datetime.fromisoformat(each["begins_at"])
            for each in found["items"]
        ]
        assert len(keys) == len(expected)
        if by == "type":
            counts = [each["events"] for each in found["items"]]
            assert counts == sorted(counts, reverse=True)
        else:
            assert keys == sorted(expected)
        for key, item in zip(keys, found["items"], strict=True):
            its = expected[key]
            assert item["events"] == len(its)
            assert item["total_s"] == pytest.approx(sum(e["end_s"] - e["start_s"] for e in its))
            by_reference = {each["level_reference"]: each for each in item["levels"]}
            assert by_reference.keys() == {event["reference"] for event in its}
            for reference, levels in by_reference.items():
                of_it = [event for event in its if event["reference"] == reference]
                loudest = [e["lafmax_db"] for e in of_it if e["lafmax_db"] is not None]
                assert levels["lafmax_db"] == max(loudest, default=None)
                assert levels["laeq_db"] == pytest.approx(level(of_it), abs=0.006)


def test_an_hour_begins_in_local_time(api: Api, store: Store) -> None:
    session = one_session(random.Random(1), 1, recorded_at=datetime(2026, 3, 1, 22, 59, tzinfo=UTC))
    event: Any = {"start_s": 61.0, "end_s": 62.0, "noise_type": "rain", "confidence": 0.5}
    with store.transaction() as tx:
        add_sessions(tx, [session])
        session_queries.add_detections(tx, session["id"], [event])
    asked = {"heard_from": BEGIN, "heard_to": BEGIN + timedelta(days=2)}
    for by in ("hour", "day"):
        found = summary(api, by=by, time_zone="Europe/Berlin", **asked)["items"]
        assert [each["begins_at"] for each in found] == ["2026-03-02T00:00:00+01:00"]
        assert summary(api, by=by, **asked)["items"][0]["begins_at"] == (
            "2026-03-01T23:00:00Z" if by == "hour" else "2026-03-01T00:00:00Z"
        )


REFUSED = (
    ({"by": "week"}, "by"),
    ({"time_zone": "Mars/Olympus"}, "time_zone"),
    ({"time_zone": "localtime"}, "time_zone"),
    ({"time_zone": "tzdata.zi"}, "time_zone"),
    ({"heard_to": "2026-03-01T00:00:00Z"}, "heard_to"),
    ({"heard_to": "2027-03-03T00:00:00Z"}, "heard_to"),
    ({"metadata": "no object"}, "metadata"),
    ({"sort": "heard_at"}, "sort"),
)


@pytest.mark.parametrize(("asked", "field"), REFUSED)
def test_a_summary_of_something_else_is_refused(api: Api, asked: Row, field: str) -> None:
    whole = {"by": "day", "heard_from": BEGIN.isoformat(), "heard_to": MIDDLE.isoformat()}
    answer = api.simulate_get(f"/v1/detections/summary?{urlencode(whole | asked)}")
    assert answer.status_code == 400
    assert [each["field"] for each in answer.json["errors"]] == [field]


def test_a_zone_that_only_python_knows_is_told_from_a_fault(store: Store, api: Api) -> None:
    wanted = DetectionFilter(owner=None, heard=(BEGIN, MIDDLE))
    add_stranger(store)
    session = one_session(random.Random(1), 1, recorded_at=BEGIN)
    event: Any = {"start_s": 0.0, "end_s": 1.0, "noise_type": "rain", "confidence": 0.5}
    with store.transaction() as tx:
        add_sessions(tx, [session])
        session_queries.add_detections(tx, session["id"], [event])
    with store.transaction() as tx, pytest.raises(UnknownTimeZone):
        detection_queries.sums(tx, wanted, by="hour", time_zone="Mars/Olympus")


def test_a_removed_user_leaves_detections_without_an_owner(store: Store, api: Api) -> None:
    add_rows(store)
    with store.transaction() as tx:
        tx.execute(text("DELETE FROM users WHERE id = :id"), {"id": STRANGER})
        [differing] = tx.execute(
            text(
                "SELECT count(*) FROM noise_detections d JOIN audio_sessions s ON s.id = session_id"
                " WHERE d.user_id IS DISTINCT FROM s.user_id"
            )
        ).scalars()
        left = tx.execute(
            text("SELECT count(*) FROM noise_detections WHERE user_id IS NULL")
        ).scalar_one()
    assert differing == 0
    assert left
