"""Lists of sessions and of detections page through the rows that plain Python filters."""

from __future__ import annotations

import base64
import itertools
import random
import re
from collections.abc import Callable
from typing import Any

import pytest

from db.store import Store
from tests.integration.api.sessions.listed import (
    MIDDLE,
    NATURE,
    Row,
    add_rows,
    add_sessions,
    ids,
    one_session,
    sorted_by,
    walk,
)
from tests.support import accounts
from tests.support.accounts import ADMIN_KEY
from tests.support.api import Api, App

pytestmark = pytest.mark.integration


@pytest.fixture
def rows(api: Api, store: Store) -> list[Row]:
    return add_rows(store)


SORTS = (
    "created_at",
    "-created_at",
    "recorded_at",
    "-recorded_at",
    "duration_s",
    "-duration_s",
    "finished_at",
    "-finished_at",
)


def is_heard(row: Row, wanted: Callable[[Row], bool]) -> bool:
    return any(wanted(event) for event in row["events"])


FILTERS: list[tuple[Row, Callable[[Row], bool]]] = [
    ({}, lambda _: True),
    ({"state": "failed"}, lambda row: row["state"] == "failed"),
    ({"state": ["queued", "failed"]}, lambda row: row["state"] in ("queued", "failed")),
    ({"noise_type": "siren"}, lambda row: is_heard(row, lambda e: e["noise_type"] == "siren")),
    (
        {"noise_type": ["siren", "rain"], "min_confidence": 0.5},
        lambda row: is_heard(
            row, lambda e: e["noise_type"] in ("siren", "rain") and e["confidence"] >= 0.5
        ),
    ),
    # A group matches all types below it.
    ({"noise_type": "nature"}, lambda row: is_heard(row, lambda e: e["noise_type"] in NATURE)),
    (
        {"noise_type": ["traffic", "a_type_of_mine"], "min_confidence": 0.5},
        lambda row: is_heard(
            row,
            lambda e: (
                e["noise_type"] in ("helicopter", "a_type_of_mine") and e["confidence"] >= 0.5
            ),
        ),
    ),
    ({"noise_type": "human"}, lambda _: False),
    ({"min_confidence": 0.75}, lambda row: is_heard(row, lambda e: e["confidence"] >= 0.75)),
    ({"created_from": MIDDLE.isoformat()}, lambda row: row["created_at"] >= MIDDLE),
    ({"created_to": MIDDLE.isoformat()}, lambda row: row["created_at"] < MIDDLE),
    ({"file_name": "c d&e=f.wav"}, lambda row: row["file_name"] == "c d&e=f.wav"),
    ({"noise_type": "nothing"}, lambda _: False),
    (
        {"recorded_from": MIDDLE.isoformat()},
        lambda row: row["recorded_at"] is not None and row["recorded_at"] >= MIDDLE,
    ),
    (
        {"recorded_to": MIDDLE.isoformat()},
        lambda row: row["recorded_at"] is not None and row["recorded_at"] < MIDDLE,
    ),
    ({"metadata": '{"site": "roof"}'}, lambda row: row["user_metadata"] != {}),
    ({"metadata": '{"floor": 3, "x": null}'}, lambda row: "floor" in row["user_metadata"]),
    ({"metadata": '{"floor": "3"}'}, lambda _: False),
    ({"metadata": "{}"}, lambda _: True),
]


def test_sessions_are_walked_in_every_order_under_every_filter(api: Api, rows: list[Row]) -> None:
    for sort, (asked, wanted) in itertools.product(SORTS, FILTERS):
        expected = sorted_by([row for row in rows if wanted(row)], sort, "id")
        for limit in (7,) if asked else (1, 7, 1_000):
            walked = walk(api, "/v1/sessions", sort=sort, limit=limit, **asked)
            assert ids(walked) == ids(expected), (asked, limit)
    batch_id = next(row["batch_id"] for row in rows if row["batch_id"])
    for sort in SORTS:
        expected = sorted_by([row for row in rows if row["batch_id"] == batch_id], sort, "id")
        assert ids(walk(api, "/v1/sessions", sort=sort, batch_id=batch_id)) == ids(expected)


def test_an_administrator_walks_through_what_all_have(app: App, api: Api, rows: list[Row]) -> None:
    own = {*ids(walk(api, "/v1/sessions"))}
    assert own == {*ids(rows)}
    everybodys = ids(walk(accounts.client(app, ADMIN_KEY), "/v1/sessions", sort="duration_s"))
    assert len(everybodys) == len({*everybodys}) == len(rows) + 60
    assert own < {*everybodys}


def test_a_walk_meets_each_row_once_while_others_come(
    api: Api, rows: list[Row], store: Store
) -> None:
    rng = random.Random(6)
    added: list[str] = []

    def add() -> None:
        new = [one_session(rng, n) for n in range(3)]
        with store.transaction() as tx:
            add_sessions(tx, new)
        added.extend(ids(new))

    for sort in SORTS:
        there = {*ids(rows), *added}
        walked = ids(walk(api, "/v1/sessions", sort=sort, between=add, limit=9))
        assert len(walked) == len({*walked})
        assert there <= {*walked} <= {*there, *added}


DETECTION_SORTS = (
    "start_s",
    "-start_s",
    "confidence",
    "-confidence",
    "laeq_db",
    "-laeq_db",
    "lafmax_db",
    "-lafmax_db",
    "lae_db",
    "-lae_db",
    "emergence_db",
    "-emergence_db",
)


def test_events_of_a_session_are_walked_in_every_order_under_every_filter(
    api: Api, rows: list[Row]
) -> None:
    session = rows[-1]
    path = f"/v1/sessions/{session['id']}/detections"
    filters: list[tuple[Row, Callable[[Row], bool]]] = [
        ({}, lambda _: True),
        ({"noise_type": ["siren", "rain"]}, lambda e: e["noise_type"] in ("siren", "rain")),
        ({"noise_type": "traffic"}, lambda e: e["noise_type"] == "helicopter"),
        ({"noise_type": ["nature", "siren"]}, lambda e: e["noise_type"] in (*NATURE, "siren")),
        ({"min_confidence": 0.4}, lambda e: e["confidence"] >= 0.4),
        ({"from_s": 10, "to_s": 20.5}, lambda e: e["end_s"] > 10 and e["start_s"] < 20.5),
    ]
    for sort, (asked, wanted) in itertools.product(DETECTION_SORTS, filters):
        expected = sorted_by([e for e in session["events"] if wanted(e)], sort, "event_index")
        walked = walk(api, path, sort=sort, **asked)
        assert [each["start_s"] for each in walked] == [each["start_s"] for each in expected]


def test_events_of_all_sessions_are_walked_from_the_newest_on(api: Api, rows: list[Row]) -> None:
    filters: list[tuple[Row, Callable[[Row, Row], bool]]] = [
        ({}, lambda _row, _event: True),
        ({"noise_type": "siren"}, lambda _row, event: event["noise_type"] == "siren"),
        ({"noise_type": "traffic"}, lambda _row, event: event["noise_type"] == "helicopter"),
        ({"noise_type": "nature"}, lambda _row, event: event["noise_type"] in NATURE),
        ({"min_confidence": 0.5}, lambda _row, event: event["confidence"] >= 0.5),
        ({"created_to": MIDDLE.isoformat()}, lambda row, _event: row["created_at"] < MIDDLE),
    ]
    for asked, wanted in filters:
        expected = [
            (str(row["id"]), event["start_s"], row["file_name"])
            for row in sorted_by(rows, "-created_at", "id")
            for event in reversed(row["events"])
            if wanted(row, event)
        ]
        walked = walk(api, "/v1/detections", **asked)
        found = [(each["session_id"], each["start_s"], each["file_name"]) for each in walked]
        assert found == expected
        assert {each["level_reference"] for each in walked} <= {"dBFS"}


def test_a_cursor_is_of_its_list_its_filters_and_its_order(api: Api, rows: list[Row]) -> None:
    first = api.simulate_get("/v1/sessions?limit=2&state=failed&state=completed")
    cursor = first.json["next_cursor"]
    assert re.fullmatch(r"[A-Za-z0-9_-]+", cursor)
    # The limit may change between pages.
    assert api.simulate_get(
        f"/v1/sessions?limit=3&state=failed&state=completed&cursor={cursor}"
    ).json["items"]

    def refused(path: str, **asked: Any) -> None:
        answer = api.simulate_get(path, params=asked)
        assert answer.status_code == 400, asked
        assert [each["field"] for each in answer.json["errors"]] == ["cursor"]

    refused("/v1/sessions", cursor=cursor)
    refused("/v1/sessions", cursor=cursor, state="failed")
    refused("/v1/sessions", cursor=cursor, state=["failed", "completed"], sort="created_at")
    refused("/v1/sessions", cursor=cursor, state=["failed", "completed"], sort="duration_s")
    refused("/v1/batches", cursor=cursor)
    refused(f"/v1/sessions/{rows[0]['id']}/detections", cursor=cursor)
    events = f"/v1/sessions/{rows[-1]['id']}/detections"
    of_another = api.simulate_get(f"{events}?limit=1").json["next_cursor"]
    refused(f"/v1/sessions/{rows[0]['id']}/detections", cursor=of_another)

    opened = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
    for made_up in (
        b"",
        b"[]",
        b"7",
        b"\xff",
        opened[:-1],
        opened.replace(b"[1,", b"[2,", 1),
        b"[" * 5_000,
        re.sub(rb'\["2026[^"]*"', b'["never"', opened),
        re.sub(rb'\["2026[^"]*"', b"[null", opened),
        re.sub(rb'\["2026[^"]*"', b'["2026-03-01T00:00:00"', opened),
    ):
        text = base64.urlsafe_b64encode(made_up).decode().rstrip("=")
        refused("/v1/sessions", cursor=text, state=["failed", "completed"])
    for nonsense in ("", "-1", "0", "ä", "a" * 4_000, f"{cursor}!", f"{cursor}\x00"):
        refused("/v1/sessions", cursor=nonsense, state=["failed", "completed"])
