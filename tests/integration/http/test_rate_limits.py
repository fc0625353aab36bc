"""A key's rate limit holds across any number of processes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import falcon
import falcon.testing
import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from actors.execution.runtime import Runtime
from db.store import Store
from services.client import Client
from services.http.caller_errors import RateLimited
from services.http.rate_limits import RateLimiter
from tests.support import accounts
from tests.support.api import App, app_of
from tests.support.cluster import eventually

pytestmark = pytest.mark.integration

KEY_ID = accounts.KEY.split("_")[1]
OTHER_ID = accounts.ADMIN_KEY.split("_")[1]


class World:
    """A controllable clock, for the limiters and for their rows."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.now_s = 1_000.0

    def limiter(self, *, per_s: float = 0.01, burst_s: float = 4_000.0) -> RateLimiter:
        """Return a limiter so slow that the time of the test itself adds no tokens."""
        return RateLimiter(self.store, per_s=per_s, burst_s=burst_s, clock=lambda: self.now_s)

    def wait(self, seconds: float) -> None:
        self.now_s += seconds
        with self.store.transaction() as tx:
            tx.execute(
                text("UPDATE rate_buckets SET settled_at = settled_at - make_interval(secs => :s)"),
                {"s": seconds},
            )

    def tokens(self) -> float:
        with self.store.reading() as tx:
            return float(tx.execute(text("SELECT sum(tokens) FROM rate_buckets")).scalar() or 0)


@pytest.fixture
def world(store: Store) -> World:
    return World(store)


def granted(limiter: RateLimiter, n_asked: int, *, key_id: str = KEY_ID, **own: Any) -> int:
    """Return how many of some requests are granted."""
    n_granted = 0
    for _ in range(n_asked):
        try:
            limiter.enforce(falcon.Response(), key_id=key_id, **{"per_s": None} | own)
        except RateLimited:
            continue
        n_granted += 1
    return n_granted


def test_a_burst_then_the_rate(world: World) -> None:
    limiter = world.limiter()
    assert granted(limiter, 100) == 40
    world.wait(500)
    assert granted(limiter, 100) == 5
    # Another key has its own bucket, and a key may have its own rate.
    assert granted(limiter, 100, key_id=OTHER_ID, per_s=0.002) == 8
    world.wait(1e6)
    assert granted(limiter, 100) == 40
    assert granted(world.limiter(per_s=0), 1_000) == 1_000
    assert granted(world.limiter(per_s=0), 100, per_s=0.0001) == 1


def test_processes_keep_to_the_rate_together(world: World) -> None:
    limiters = [world.limiter(), world.limiter()]
    n_granted = 0
    for _ in range(80):
        for limiter in limiters:
            n_granted += granted(limiter, 10)
            limiter.settle()
        world.wait(250)
    # Each process alone would have granted 40 and 200.
    assert 230 <= n_granted <= 250


def test_what_was_given_away_twice_is_paid_back(world: World) -> None:
    one, other = world.limiter(), world.limiter()
    assert granted(one, 40) + granted(other, 40) == 80
    one.settle()
    other.settle()
    assert round(world.tokens()) == -40
    assert granted(other, 10) == 0
    world.wait(3_500)
    assert granted(other, 10) == 0
    world.wait(1_550)
    assert granted(other, 100) == 10


class AwayStore(Store):
    """A store that rejects writes while ``is_away``."""

    is_away = False

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        if self.is_away:
            raise OperationalError("UPDATE", {}, Exception("away"))
        with super().transaction() as tx:
            yield tx


def test_a_database_that_is_away_refuses_nobody_and_is_told_later(database_url: str) -> None:
    store = AwayStore(database_url)
    world = World(store)
    limiter = world.limiter()
    assert granted(limiter, 40) == 40
    limiter.settle()
    store.is_away = True
    for _ in range(10):
        world.now_s += 1_000.0
        assert granted(limiter, 100) == 10
        with pytest.raises(OperationalError):
            limiter.settle()
    store.is_away = False
    world.wait(10_000)
    limiter.settle()
    # Nothing is owed: the process kept to the rate by itself.
    assert round(world.tokens()) == 0
    store.close()


def test_a_limiter_settles_by_itself(store: Store) -> None:
    limiter = RateLimiter(store, per_s=0.001, burst_s=100_000.0)
    limiter.start()
    assert granted(limiter, 60) == 60
    eventually(lambda: round(World(store).tokens()) == 40, what="the settlement")
    with store.transaction() as tx:
        tx.execute(text("UPDATE rate_buckets SET tokens = 0"))
    granted(limiter, 1)
    eventually(lambda: granted(limiter, 1) == 0, what="what another process had taken")
    limiter.close()


@pytest.fixture
def app(runtime: Runtime, world: World) -> App:
    return app_of(runtime, limiter=world.limiter(per_s=1.0, burst_s=3.0))


def test_every_answer_to_a_key_tells_what_is_left(app: App) -> None:
    api = accounts.client(app)
    served = api.simulate_get("/v1/models")
    assert served.status_code == 200
    assert served.headers["ratelimit-policy"] == '"default";q=3;w=3'
    assert served.headers["ratelimit"] == '"default";r=2;t=1'
    forbidden = api.simulate_get("/v1/users")
    assert forbidden.status_code == 403
    assert forbidden.headers["ratelimit"] == '"default";r=1;t=2'
    assert api.simulate_get("/v1/models").headers["ratelimit"] == '"default";r=0;t=3'
    refused = api.simulate_get("/v1/models")
    assert refused.status_code == 429
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.json["type"] == "/problems/rate-limited"
    assert refused.headers["retry-after"] == "1"
    assert refused.headers["ratelimit"] == '"default";r=0;t=1'
    assert refused.headers["ratelimit-policy"] == served.headers["ratelimit-policy"]
    for path, headers in (("/health/live", {}), ("/v1/models", {"Authorization": "Bearer x"})):
        assert "ratelimit" not in api.simulate_get(path, headers=headers).headers


def test_a_key_is_given_a_rate_of_its_own(app: App) -> None:
    admin = accounts.client(app, accounts.ADMIN_KEY)
    changed = admin.simulate_patch(f"/v1/keys/{KEY_ID}", json={"requests_per_s": 2.5})
    assert changed.json["requests_per_s"] == 2.5
    policy = accounts.client(app).simulate_get("/v1/models").headers["ratelimit-policy"]
    assert policy == '"default";q=7;w=3'
    assert admin.simulate_patch(f"/v1/keys/{KEY_ID}", json={}).json["requests_per_s"] == 2.5
    assert admin.simulate_get(f"/v1/keys/{KEY_ID}").json["requests_per_s"] == 2.5


@pytest.mark.parametrize("wrong", [0, -1, 1e9, "fast"])
def test_a_rate_that_is_none_is_refused(app: App, wrong: Any) -> None:
    admin = accounts.client(app, accounts.ADMIN_KEY)
    assert (
        admin.simulate_patch(f"/v1/keys/{KEY_ID}", json={"requests_per_s": wrong}).status_code
        == 400
    )
    nowhere = admin.simulate_patch("/v1/keys/nobodys", json={"requests_per_s": 1})
    assert nowhere.status_code == 404


def test_the_client_waits_as_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr(time, "sleep", waited.append)
    answers = iter([httpx.Response(429, headers={"Retry-After": "2"}), httpx.Response(200)])
    client = Client("http://127.0.0.1:1", transport=httpx.MockTransport(lambda _: next(answers)))
    assert client.ready()
    assert waited == [2]
