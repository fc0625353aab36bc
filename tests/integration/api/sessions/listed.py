"""Rows to list, and walks through lists."""

from __future__ import annotations

import random
import re
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from db.store import Store
from db.tables.sessions import SESSION_STATES, UNFINISHED_STATES
from tests.support import accounts
from tests.support.accounts import TEAM
from tests.support.api import Api

STRANGER = uuid.UUID("33333333-3333-4333-8333-333333333333")
BEGIN = datetime(2026, 3, 1, tzinfo=UTC)
MIDDLE = BEGIN + timedelta(seconds=7)
Row = dict[str, Any]


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
