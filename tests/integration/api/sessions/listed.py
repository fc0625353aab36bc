"""Rows to list, and walks through lists."""

from __future__ import annotations

import random
import re
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from sqlalchemy import delete, insert
from sqlalchemy.orm import Session

from db.queries import batch_queries
from db.store import Store
from db.tables.detections import NoiseDetection
from db.tables.session_results import SessionResult
from db.tables.sessions import SESSION_STATES, UNFINISHED_STATES, AudioSession
from tests.support import accounts
from tests.support.accounts import TEAM
from tests.support.api import Api
from tests.support.pipeline import put_into

STRANGER = uuid.UUID("33333333-3333-4333-8333-333333333333")
BEGIN = datetime(2026, 3, 1, tzinfo=UTC)
MIDDLE = BEGIN + timedelta(seconds=7)
Row = dict[str, Any]
TYPES = ("rain", "siren", "dog_bark", "helicopter", "a_type_of_mine")
NATURE = ("rain", "dog_bark")


def add_stranger(store: Store) -> None:
    with store.transaction() as tx:
        accounts.add_user(tx, STRANGER, "stranger@example.org")


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
    state = values.get("state", rng.choice(SESSION_STATES))
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


def add_sessions(tx: Session, sessions: list[Row]) -> None:
    """Add sessions with their work, and with their results unless these are not decoded yet."""
    names = ("duration_s", "finished_at", "max_confidence")
    for row in sessions:
        of_session = {name: value for name, value in row.items() if name not in names}
        tx.execute(insert(AudioSession).values(of_session))
        result = {name: row.get(name) for name in names}
        put_into(tx, row["id"], row["state"], **result)
        if not any(result.values()):
            tx.execute(delete(SessionResult).where(SessionResult.session_id == row["id"]))


def add_rows(store: Store) -> list[Row]:
    """Add the team's sessions with their detections in ``events``, and as many of a stranger."""
    add_stranger(store)
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
            "lae_db": rng.choice((None, -5.0, -4.5)),
            "emergence_db": rng.choice((None, -1.0, 20.5)),
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
        | {"lae_db": rng.choice((None, -5.0)), "emergence_db": rng.choice((None, 3.0, 20.5))}
        for index in range(40)
    ]
    by_id = {session["id"]: session for session in (*sessions, *others)}
    for event in events:
        session = by_id[event["session_id"]]
        begun = session["recorded_at"]
        event["user_id"] = session["user_id"]
        event["heard_at"] = begun and begun + timedelta(seconds=event["start_s"])
    for session in by_id.values():
        confidences = [e["confidence"] for e in events if e["session_id"] == session["id"]]
        session["max_confidence"] = max(confidences, default=None)
    with store.transaction() as tx:
        batch_queries.add_batch(tx, id=batch_id, user_id=TEAM, state="taken", options={})
        add_sessions(tx, [*sessions, *others])
        tx.execute(insert(NoiseDetection), events)
    for session in sessions:
        session["events"] = [each for each in events if each["session_id"] == session["id"]]
    return sessions
