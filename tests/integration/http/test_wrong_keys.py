"""Wrong keys: what a flood of them costs, and that right keys work beside it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from actors.execution.runtime import Runtime
from db.queries import account_queries
from db.store import Store
from services.http import keys, wrong_keys
from services.http.wrong_keys import BURST, FRESH_S
from tests.support import accounts
from tests.support.api import client_of

pytestmark = pytest.mark.integration

N_WRONG = 1_000


@dataclass
class Counts:
    """How often the database was asked."""

    credentials: int = 0
    copies: int = 0


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> Counts:
    found = Counts()
    look_up, copy = account_queries.credential, account_queries.active_hashes

    def credential(store: Store, key_id: str) -> account_queries.Credential | None:
        found.credentials += 1
        return look_up(store, key_id)

    def active_hashes(store: Store, *, limit: int) -> dict[str, bytes]:
        found.copies += 1
        return copy(store, limit=limit)

    monkeypatch.setattr(account_queries, "credential", credential)
    monkeypatch.setattr(account_queries, "active_hashes", active_hashes)
    return found


def unknown(_known: str) -> str:
    return str(keys.new())


def with_a_wrong_secret(known: str) -> str:
    parsed = keys.parse(known)
    assert parsed is not None
    return str(keys.new(parsed.id))


@pytest.mark.parametrize("wrong", [unknown, with_a_wrong_secret])
def test_a_flood_costs_no_query_each_and_right_keys_work(
    runtime: Runtime, store: Store, counts: Counts, wrong: Callable[[str], str]
) -> None:
    api = client_of(runtime)
    assert api.simulate_get("/v1/sessions").status_code == 200
    began_s = time.monotonic()
    for _ in range(N_WRONG):
        answered = api.simulate_get("/v1/sessions", headers=accounts.bearer(wrong(accounts.KEY)))
        assert answered.status_code == 401
        assert answered.json["type"] == "/problems/unauthenticated"
    took_s = time.monotonic() - began_s
    assert counts.credentials <= 1 + BURST + took_s * wrong_keys.LOOK_UPS_PER_S + 1
    assert counts.copies <= 1 + took_s / FRESH_S
    # A key that was used before, one that was not, and one that is new.
    assert api.simulate_get("/v1/sessions").status_code == 200
    admin = accounts.bearer(accounts.ADMIN_KEY)
    assert api.simulate_get("/v1/sessions", headers=admin).status_code == 200
    with store.transaction() as tx:
        new = accounts.add_key(tx, accounts.TEAM)
    deadline = time.monotonic() + FRESH_S + 1
    while api.simulate_get("/v1/sessions", headers=accounts.bearer(new)).status_code == 401:
        assert time.monotonic() < deadline
        api.simulate_get("/v1/sessions", headers=accounts.bearer(wrong(accounts.KEY)))


def test_without_a_flood_a_new_key_works_at_once(runtime: Runtime, store: Store) -> None:
    api = client_of(runtime)
    for _ in range(int(BURST) // 2):
        with store.transaction() as tx:
            new = accounts.add_key(tx, accounts.TEAM, name=str(keys.new()))
        assert api.simulate_get("/v1/sessions", headers=accounts.bearer(new)).status_code == 200


def test_a_revoked_key_is_refused_at_once_and_a_flood_of_it_costs_no_query_each(
    runtime: Runtime, store: Store, counts: Counts
) -> None:
    api = client_of(runtime)
    parsed = keys.parse(accounts.KEY)
    assert parsed is not None
    assert api.simulate_get("/v1/sessions").status_code == 200
    with store.transaction() as tx:
        account_queries.revoke_key(tx, parsed.id)
    refused = api.simulate_get("/v1/sessions")
    assert (refused.status_code, "revoked" in refused.json["detail"]) == (401, True)
    began_s = time.monotonic()
    for _ in range(N_WRONG):
        assert api.simulate_get("/v1/sessions").status_code == 401
    took_s = time.monotonic() - began_s
    assert counts.credentials <= 2 + BURST + took_s * wrong_keys.LOOK_UPS_PER_S + 1
