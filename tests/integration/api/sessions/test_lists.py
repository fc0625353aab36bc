"""Lists page through the same rows that plain Python filters and sorts, for any query."""

from __future__ import annotations

import base64
import itertools
import random
import re
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import pytest
from sqlalchemy import insert, update

from db.queries import batch_queries, model_queries, session_queries
from db.store import Store
from db.tables.batches import Batch, BatchItem
from db.tables.models import NoiseModel
from db.tables.sessions import SESSION_STATES, UNFINISHED_STATES, AudioSession, NoiseDetection
from db.tables.training import TrainingJob, Validation
from tests.support import accounts
from tests.support.accounts import ADMIN_KEY, TEAM
from tests.support.api import Api, App

pytestmark = pytest.mark.integration

STRANGER = uuid.UUID("33333333-3333-4333-8333-333333333333")
BEGIN = datetime(2026, 3, 1, tzinfo=UTC)
MIDDLE = BEGIN + timedelta(seconds=7)
TYPES = ("rain", "siren", "dog_bark", "helicopter", "a_type_of_mine")
NATURE = ("rain", "dog_bark")
Row = dict[str, Any]


@pytest.fixture(autouse=True)
def stranger(store: Store) -> None:
    with store.transaction() as db:
        accounts.add_user(db, STRANGER, "stranger@example.org")


def walk(
    api: Api,
    path: str,
    *,
    limit: int = 7,
    between: Callable[[], object] = lambda: None,
    **asked: Any,
) -> list[Row]:
    """Return a whole list by following the links from page to page."""
    items: list[Row] = []
    target = f"{path}?{urlencode({'limit': limit, **asked}, doseq=True)}"
    while True:
        page = api.simulate_get(target)
        assert page.status_code == 200, page.text
        items += page.json["items"]
        cursor = page.json["next_cursor"]
        if cursor is None:
            assert "link" not in page.headers
            return items
        assert len(page.json["items"]) == limit
        link = re.fullmatch(r'<(/[^>]*)>; rel="next"', page.headers["link"])
        assert link is not None
        assert cursor in link[1]
        target = link[1]
        between()


def sorted_by(rows: list[Row], sort: str, *unique: str) -> list[Row]:
    """Sort rows as lists do: nulls last in either direction."""
    name = sort.removeprefix("-")

    def key(row: Row) -> tuple[Any, ...]:
        return tuple(row[each] for each in (name, *unique))

    known = [row for row in rows if row[name] is not None]
    unknown = [row | {name: 0} for row in rows if row[name] is None]
    reverse = sort.startswith("-")
    return sorted(known, key=key, reverse=reverse) + sorted(unknown, key=key, reverse=reverse)


def ids(rows: list[Row]) -> list[str]:
    return [str(row["id"]) for row in rows]


def one_session(rng: random.Random, n: int, **values: Any) -> Row:
    """Return a session's row, with ties in every sort key."""
    state = rng.choice(SESSION_STATES)
    created_at = BEGIN + timedelta(seconds=rng.randrange(20))
    return {
        "id": uuid.UUID(int=rng.getrandbits(128), version=4),
        "user_id": TEAM,
        "state": state,
        "file_name": rng.choice(("a.wav", "b.wav", "c d&e=f.wav")),
        "recording_key": f"sessions/{n}",
        "size_bytes": n,
        "created_at": created_at,
        "recorded_at": rng.choice((None, BEGIN, MIDDLE, MIDDLE + timedelta(microseconds=1))),
        "user_metadata": rng.choice(
            ({}, {"site": "roof"}, {"site": "roof", "floor": 3, "x": None})
        ),
        "duration_s": rng.choice((None, 0.1, 0.30000000000000004, 60.0)),
        "finished_at": None
        if state in UNFINISHED_STATES
        else created_at + timedelta(microseconds=rng.randrange(3)),
    } | values


@pytest.fixture
def rows(api: Api, store: Store) -> list[Row]:
    """Add the team's sessions with their detections in ``events``, and as many of a stranger."""
    rng = random.Random(5)
    batch_id = uuid.uuid4()
    sessions = [one_session(rng, n, batch_id=rng.choice((None, batch_id))) for n in range(60)]
    others = [one_session(rng, n, user_id=STRANGER, batch_id=None) for n in range(60)]
    events = [
        {
            "session_id": session["id"],
            "event_index": index,
            "start_s": float(index),
            "end_s": index + rng.choice((0.5, 3.0)),
            "noise_type": rng.choice(TYPES),
            "confidence": rng.choice((0.25, 0.5, 0.75)),
            "laeq_db": rng.choice((None, -30.5, -20.0)),
            "lafmax_db": rng.choice((None, -10.0)),
        }
        for session in (*sessions, *others)
        for index in range(rng.randrange(3))
    ]
    # A session with more than a page of detections.
    sessions.append(one_session(rng, 61, batch_id=None, state="completed"))
    events += [
        events[0]
        | {"session_id": sessions[-1]["id"], "event_index": index, "start_s": float(index)}
        | {"end_s": index + rng.choice((0.5, 3.0)), "noise_type": rng.choice(TYPES)}
        | {"confidence": rng.random(), "laeq_db": rng.choice((None, -30.5, -20.0, -7.25))}
        for index in range(40)
    ]
    with store.transaction() as db:
        batch_queries.add_batch(db, id=batch_id, user_id=TEAM, state="taken", options={})
        db.execute(insert(AudioSession), [*sessions, *others])
        db.execute(insert(NoiseDetection), events)
    for session in sessions:
        session["events"] = [each for each in events if each["session_id"] == session["id"]]
    return sessions


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
        with store.transaction() as db:
            db.execute(insert(AudioSession), new)
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


def test_batches_and_their_items(api: Api, store: Store) -> None:
    rng = random.Random(3)
    states = ("receiving", "expanding", "taken", "failed", "cancelled")
    batches = [
        {
            "id": uuid.uuid4(),
            "user_id": TEAM,
            "state": rng.choice(states),
            "options": {},
            "items_total": 2,
            "created_at": BEGIN + timedelta(seconds=rng.randrange(5)),
        }
        for _ in range(20)
    ]
    items = [
        {"batch_id": batches[0]["id"], "item_index": n, "file_name": f"{n}.wav", "source_key": None}
        for n in range(30)
    ]
    session = one_session(rng, 1, batch_id=batches[0]["id"], state="detecting")
    with store.transaction() as db:
        db.execute(insert(Batch), batches)
        db.execute(insert(Batch), [batches[1] | {"id": uuid.uuid4(), "user_id": STRANGER}])
        db.execute(insert(AudioSession), [session])
        db.execute(insert(BatchItem), items)
        for batch in batches[1:10]:
            taken = Batch(priority=1, **batch)
            batch_queries.take_item(db, taken, 0, file_name="a", size_bytes=1, key="b")
    # The state is the one that the batch itself shows.
    shown = {
        str(batch["id"]): api.simulate_get(f"/v1/batches/{batch['id']}").json for batch in batches
    }
    for sort in ("created_at", "-created_at"):
        expected = ids(sorted_by(batches, sort, "id"))
        walked = walk(api, "/v1/batches", sort=sort)
        assert ids(walked) == expected
        assert {each["id"]: each["state"] for each in walked} == {
            batch_id: batch["state"] for batch_id, batch in shown.items()
        }
        for state in ("processing", "finished", "cancelled"):
            wanted = [each for each in expected if shown[each]["state"] == state]
            assert ids(walk(api, "/v1/batches", sort=sort, state=state)) == wanted
    path = f"/v1/batches/{batches[0]['id']}/items"
    walked = walk(api, path)
    assert [each["index"] for each in walked] == list(range(30))
    state = walked[0]["state"]
    assert walk(api, path, state=[state, "refused"]) == walked
    assert walk(api, path, state="refused") == []


def test_models_trainings_and_validations(api: Api, store: Store) -> None:
    rng = random.Random(4)

    def some(n_rows: int, **values: Any) -> list[Row]:
        return [
            {"id": uuid.uuid4(), "user_id": TEAM, "created_at": BEGIN + timedelta(days=k % 4)}
            | {name: value(k) if callable(value) else value for name, value in values.items()}
            for k in range(n_rows)
        ]

    models = some(15, name="m", version=str, sha256=lambda k: f"{k:064}", header={"classes": ["a"]})
    jobs: dict[str, Any] = {"state": lambda _: rng.choice(("pending", "completed", "failed"))}
    trainings = some(15, name="m", version=lambda k: k + 1, seed=0, **jobs)
    validations = some(15, model_id=models[0]["id"], **jobs)
    with store.transaction() as db:
        db.execute(insert(NoiseModel), models)
        db.execute(insert(TrainingJob), trainings)
        db.execute(insert(Validation), validations)
        other = {"id": uuid.uuid4(), "user_id": STRANGER}
        db.execute(insert(NoiseModel), [models[0] | other | {"sha256": "1" * 64, "version": "x"}])
        db.execute(insert(TrainingJob), [trainings[0] | other | {"version": 99}])
        db.execute(insert(Validation), [validations[0] | other])
    for name, made in (("models", models), ("trainings", trainings), ("validations", validations)):
        for sort in ("created_at", "-created_at"):
            expected = sorted_by(made, sort, "id")
            assert ids(walk(api, f"/v1/{name}", sort=sort)) == ids(expected)
            if name != "models":
                failed = [each for each in expected if each["state"] == "failed"]
                assert ids(walk(api, f"/v1/{name}", sort=sort, state="failed")) == ids(failed)
    with store.reading() as db:
        assert model_queries.model_in_use(db) is None


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


REFUSED = (
    ("/v1/sessions", "sort=size_bytes", "sort"),
    ("/v1/sessions", "state=done", "state"),
    ("/v1/sessions", "state=failed&state=done", "state"),
    ("/v1/sessions", "limit=0", "limit"),
    ("/v1/sessions", "limit=1001", "limit"),
    ("/v1/sessions", "created_from=2026-03-01", "created_from"),
    ("/v1/sessions", "created_from=2026-03-01T00:00:00", "created_from"),
    ("/v1/sessions", "min_confidence=1.5", "min_confidence"),
    ("/v1/sessions", "batch_id=7", "batch_id"),
    ("/v1/sessions", "offset=10", "offset"),
    ("/v1/sessions", "file_name=a&file_name=b", "file_name"),
    ("/v1/sessions", "file_name=%00", "file_name"),
    ("/v1/sessions", "metadata=7", "metadata"),
    ("/v1/sessions", 'metadata={"a":"%5Cu0000"}', "metadata"),
    ("/v1/sessions", 'metadata={"a":["nested"]}', "metadata"),
    ("/v1/detections", "noise_type=%00", "noise_type"),
    ("/v1/batches", "state=taken", "state"),
    ("/v1/trainings", "state=queued", "state"),
    ("/v1/validations", "created_to=now", "created_to"),
    ("/v1/models", "sort=name", "sort"),
)


def test_what_a_list_cannot_be_asked_is_named(api: Api) -> None:
    for path, query, field in REFUSED:
        refused = api.simulate_get(path, query_string=query)
        assert refused.status_code == 400, query
        assert [each["field"] for each in refused.json["errors"]] == [field]
        assert "array" not in refused.json["detail"], query


def test_what_has_not_changed_is_not_sent_again(api: Api, store: Store) -> None:
    session_id, batch_id, training_id, validation_id = (uuid.uuid4() for _ in range(4))
    clip = {"file_name": "a", "label": "a", "source": "a", "blob_key": None}
    with store.transaction() as db:
        batch_queries.add_batch(db, id=batch_id, user_id=TEAM, state="taken", options={})
        session_queries.add_session(
            db,
            id=session_id,
            batch_id=batch_id,
            user_id=TEAM,
            file_name="a",
            size_bytes=1,
            recording_key="b",
        )
        model_queries.add_training(
            db, [clip], id=training_id, user_id=TEAM, name="m", algorithm=None, seed=0
        )
        model_queries.add_validation(db, id=validation_id, user_id=TEAM, file_key="c")
    looks: dict[str, Any] = {
        f"/v1/sessions/{session_id}": AudioSession,
        f"/v1/batches/{batch_id}": Batch,
        f"/v1/trainings/{training_id}": TrainingJob,
        f"/v1/validations/{validation_id}": Validation,
    }
    for path, table in looks.items():
        first = api.simulate_get(path)
        tag = first.headers["etag"]
        assert re.fullmatch(r'"[0-9a-f]{24}"', tag)
        assert first.headers["cache-control"] == "private, no-cache"
        for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
            again = api.simulate_get(path, headers={"If-None-Match": known})
            assert (again.status_code, again.content) == (304, b"")
            assert again.headers["etag"] == tag
        other = api.simulate_get(path, headers={"If-None-Match": '"other"'})
        assert (other.status_code, other.json) == (200, first.json)
        head = api.simulate_head(path)
        assert (head.status_code, head.content, head.headers["etag"]) == (200, b"", tag)
        assert head.headers["content-length"] == str(len(first.content))
        with store.transaction() as db:
            problem = {"code": "lost", "detail": "changed"}
            db.execute(update(table).values(problem=problem))
        changed = api.simulate_get(path, headers={"If-None-Match": tag})
        assert changed.status_code == 200
        assert changed.headers["etag"] != tag
        stranger = api.simulate_get(path, headers={"If-None-Match": "*"} | accounts.bearer("no"))
        assert stranger.status_code == 401
    nowhere = api.simulate_get(f"/v1/sessions/{uuid.uuid4()}", headers={"If-None-Match": "*"})
    assert nowhere.status_code == 404
