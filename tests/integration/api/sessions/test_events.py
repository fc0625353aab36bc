"""Event streams from a real server process.

No workers run, so each test decides what happens to the recordings, and when.
"""

from __future__ import annotations

import statistics
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from db import migrate
from db.queries import session_queries
from db.queue import claims
from db.queue.claims import SessionWork
from db.settings import Settings
from db.store import Store
from services.api.sessions import events
from services.app import SERVER_THREADS
from services.client import Client
from services.client.wire.sessions import Session
from services.processes.server import free_port
from tests.support import accounts, servers
from tests.support.cluster import Cluster, Process, eventually

pytestmark = pytest.mark.integration


@dataclass
class Event:
    """One event or comment as received."""

    kind: str
    session: Any
    at: float
    fields: dict[str, str]


@dataclass
class Api:
    """A server process and its store."""

    url: str
    process: Process
    store: Store
    cluster: Cluster

    def add(self) -> uuid.UUID:
        """Add a session in `splitting`."""
        session_id = uuid.uuid4()
        with self.store.transaction() as tx:
            session_queries.add_session(
                tx,
                id=session_id,
                user_id=accounts.TEAM,
                file_name="a.wav",
                size_bytes=1,
                recording_key="k",
            )
            queued = SessionWork(session_id=session_id, state="queued")
            assert claims.this(queued, tx, lease_s=600)
            assert claims.advance(tx, queued, attempt=1, to="splitting")
            assert claims.this(work(session_id), tx, lease_s=600)
        return session_id

    def tell(self, session_id: uuid.UUID, share: float) -> None:
        with self.store.transaction() as tx:
            assert session_queries.note_share(tx, work(session_id), attempt=1, share=share)

    def cancel(self, session_id: uuid.UUID) -> None:
        with self.store.transaction() as tx:
            assert session_queries.cancel_session(tx, session_id)

    @contextmanager
    def stream(self, session_id: uuid.UUID, **headers: str) -> Iterator[Iterator[Event]]:
        with httpx.stream(
            "GET", self.events_url(session_id), headers=headers | accounts.bearer(), timeout=30
        ) as response:
            assert response.status_code == 200, response.read()
            assert response.headers["content-type"] == "text/event-stream"
            assert response.headers["cache-control"] == "no-cache"
            assert response.headers["x-accel-buffering"] == "no"
            yield parsed(response)

    def session(self, session_id: uuid.UUID) -> Any:
        url = f"{self.url}/v1/sessions/{session_id}"
        return httpx.get(url, headers=accounts.bearer()).json()

    def events_url(self, session_id: uuid.UUID) -> str:
        return f"{self.url}/v1/sessions/{session_id}/events"


def work(session_id: uuid.UUID) -> SessionWork:
    return SessionWork(session_id=session_id, state="splitting")


def parsed(response: httpx.Response) -> Iterator[Event]:
    """Parse events and comments as the standard defines them."""
    fields: dict[str, str] = {}
    for line in response.iter_lines():
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
            continue
        body = msgspec.json.decode(fields["data"]) if "data" in fields else None
        yield Event(fields.get("event", "comment"), body, time.monotonic(), fields)
        fields = {}


@dataclass
class Starter:
    """Starts servers with a given limit of streams."""

    settings: Settings
    folder: Path
    stack: ExitStack = field(default_factory=ExitStack)

    def __call__(self, *, streams: int = 4) -> Api:
        cluster = self.stack.enter_context(Cluster(self.settings, self.folder))
        cluster.env["CLAMOR_EVENT_STREAMS"] = str(streams)
        # One user may have all of them.
        cluster.env["CLAMOR_USER_SHARE"] = "1"
        # Threads are the limit here, not the key's rate limit.
        cluster.env["CLAMOR_RATE_LIMIT"] = "0"
        store = Store(self.settings.database_url)
        self.stack.callback(store.close)
        port = free_port()
        return Api(f"http://127.0.0.1:{port}", cluster.serve(port), store, cluster)


@pytest.fixture
def start(rabbit_settings: Settings, tmp_path: Path) -> Iterator[Starter]:
    starter = Starter(rabbit_settings, tmp_path)
    with starter.stack:
        yield starter


def test_each_change_is_told_at_once_and_the_end_closes(start: Starter) -> None:
    api = start()
    session_id = api.add()
    with api.stream(session_id) as seen:
        first = next(seen)
        assert (first.kind, first.session["percent"]) == ("progress", 1)
        assert int(first.fields["retry"]) == events.RETRY_MS
        for share, percent in ((0.25, 10), (0.5, 20), (1.0, 40)):
            told_at = time.monotonic()
            api.tell(session_id, share)
            event = next(seen)
            assert (event.kind, event.session["percent"]) == ("progress", percent)
            # Not buffered: it arrives with the next poll.
            assert event.at - told_at < events.LOOK_S + 1.0
        asked = api.session(session_id)
        assert set(asked) == set(event.session)
        api.cancel(session_id)
        last = next(seen)
        assert (last.kind, last.session["state"]) == ("done", "cancelled")
        assert list(seen) == []
    assert (
        last.session
        == httpx.get(f"{api.url}/v1/sessions/{session_id}", headers=accounts.bearer()).json()
    )
    # A reconnecting client gets the end again, whatever its Last-Event-ID.
    for known in (last.fields["id"], "7", "no such"):
        with api.stream(session_id, **{"Last-Event-ID": known}) as seen:
            assert [event.kind for event in seen] == ["done"]


def test_of_an_unknown_session_there_are_no_events(start: Starter) -> None:
    api = start(streams=1)
    for _ in range(3):
        refused = httpx.get(api.events_url(uuid.uuid4()), headers=accounts.bearer())
        assert refused.status_code == 404
        assert refused.json()["type"] == "/problems/session-not-found"


def test_a_session_that_is_removed_ends_its_stream(start: Starter) -> None:
    api = start()
    session_id = api.add()
    with api.stream(session_id) as seen:
        next(seen)
        with api.store.transaction() as tx:
            tx.delete(session_queries.get_session(tx, session_id))
        assert list(seen) == []


def latency_s(api: Api, session_id: uuid.UUID) -> float:
    with httpx.Client(headers=accounts.bearer()) as client:
        took = []
        for _ in range(100):
            begun = time.perf_counter()
            client.get(f"{api.url}/v1/sessions/{session_id}").raise_for_status()
            took.append(time.perf_counter() - begun)
    return statistics.median(took)


def test_streams_have_bounds_and_starve_no_request(
    start: Starter, record_property: Callable[[str, object], None]
) -> None:
    """More streams than database connections: none holds one."""
    n_streams = SERVER_THREADS + 8
    api = start(streams=n_streams)
    session_id = api.add()
    alone_s = latency_s(api, session_id)
    with ExitStack() as stack:
        streams = [stack.enter_context(api.stream(session_id)) for _ in range(n_streams)]
        for stream in streams:
            next(stream)
        refused = httpx.get(api.events_url(session_id), headers=accounts.bearer())
        assert refused.status_code == 503
        assert refused.headers["content-type"] == "application/problem+json"
        assert refused.json()["type"] == "/problems/too-many-streams"
        assert int(refused.headers["retry-after"]) > 0
        beside_s = latency_s(api, session_id)
        # The server still answers as many concurrent requests as it has threads.
        with ThreadPoolExecutor(SERVER_THREADS) as pool:
            list(pool.map(lambda _: latency_s(api, session_id), range(SERVER_THREADS)))
        api.tell(session_id, 0.5)
        for stream in streams:
            assert next(event for event in stream if event.kind == "progress").session["percent"]
    record_property("median_alone_ms", alone_s * 1e3)
    record_property("median_beside_streams_ms", beside_s * 1e3)
    print(f"GET: median {alone_s * 1e3:.1f} ms, beside {n_streams} streams {beside_s * 1e3:.1f} ms")
    assert beside_s < 0.1


def test_a_stream_ends_after_a_while_or_with_its_process(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    session_id = uuid.uuid4()
    with store.transaction() as tx:
        session_queries.add_session(
            tx,
            id=session_id,
            user_id=accounts.TEAM,
            file_name="a.wav",
            size_bytes=1,
            recording_key="k",
        )
    stopping = threading.Event()
    monkeypatch.setattr(events, "LONGEST_S", 1.0)
    pieces = list(events.Stream(store, session_id, stopping))
    assert [b"event: progress" in piece for piece in pieces] == [True]
    stopping.set()
    assert list(events.Stream(store, session_id, stopping)) == []


@pytest.mark.slow
def test_a_client_that_vanishes_frees_its_place_within_a_heartbeat(start: Starter) -> None:
    api = start(streams=1)
    session_id = api.add()
    with api.stream(session_id) as seen:
        next(seen)
        # Nothing happens, so the next line is a heartbeat.
        waited_from = time.monotonic()
        assert next(seen).kind == "comment"
        assert time.monotonic() - waited_from < events.HEARTBEAT_S + 2
        assert httpx.get(api.events_url(session_id), headers=accounts.bearer()).status_code == 503
    gone_at = time.monotonic()

    def has_a_place() -> bool:
        with httpx.stream(
            "GET", api.events_url(session_id), timeout=30, headers=accounts.bearer()
        ) as response:
            return response.status_code == 200

    eventually(has_a_place, timeout_s=events.HEARTBEAT_S + 5, what="the place of who is gone")
    assert time.monotonic() - gone_at < events.HEARTBEAT_S + 2


def test_a_signal_ends_streams_and_process_at_once(start: Starter) -> None:
    api = start(streams=2)
    session_id = api.add()
    with api.stream(session_id) as one, api.stream(session_id) as other:
        next(one), next(other)
        asked_at = time.monotonic()
        assert api.process.stop() == 0
        assert time.monotonic() - asked_at < 5
        # The streams end cleanly instead of breaking off.
        assert list(one) == list(other) == []


def test_a_database_that_is_away_for_a_moment_ends_no_stream(
    rabbit_settings: Settings, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        try:
            postgres = stack.enter_context(servers.private_postgres())
        except servers.ServerUnavailable as reason:
            servers.unavailable(reason)
        migrate.upgrade(postgres.url)
        accounts.add_first(postgres.url)
        start = Starter(replace(rabbit_settings, database_url=postgres.url), tmp_path, stack)
        api = start()
        session_id = api.add()
        with api.stream(session_id) as seen:
            next(seen)
            postgres.kill()
            eventually(lambda: "stream_waits" in api.process.log.read_text(), what="a look")
            postgres.start()
            # The server took the test's own connections down too.
            api.store.close()
            api.tell(session_id, 0.5)
            event = next(event for event in seen if event.kind == "progress")
            assert event.session["percent"] == 20
            api.cancel(session_id)
            assert [event.kind for event in seen] == ["done"]
        assert "Traceback" not in api.process.log.read_text()


@dataclass
class Waiting:
    """A client that waits in its own thread."""

    client: Client
    session: Session
    seen: list[Session] = field(default_factory=list)
    ended: list[Session] = field(default_factory=list)

    def __enter__(self) -> Waiting:
        self._thread = threading.Thread(
            target=lambda: self.ended.append(
                self.client.wait(self.session, on_change=self.seen.append)
            )
        )
        self._thread.start()
        return self

    def __exit__(self, *_failure: object) -> None:
        self._thread.join(30)
        assert not self._thread.is_alive()


def test_a_waiting_client_is_told_by_the_stream(start: Starter) -> None:
    api = start(streams=1)
    session_id = api.add()
    client = Client(api.url, key=accounts.KEY)
    with Waiting(client, client.session(session_id)) as waiting:
        eventually(lambda: waiting.seen, what="the first event")
        assert httpx.get(api.events_url(session_id), headers=accounts.bearer()).status_code == 503
        api.tell(session_id, 0.5)
        eventually(lambda: waiting.seen[-1].percent == 20, what="the change")
        api.cancel(session_id)
    assert [session.percent for session in waiting.seen] == [1, 20, 100]
    assert waiting.ended == [client.session(session_id)]


def test_a_client_without_a_stream_asks_now_and_then(start: Starter) -> None:
    api = start(streams=1)
    session_id = api.add()
    client = Client(api.url, key=accounts.KEY)
    with api.stream(session_id) as taken:
        next(taken)
        with Waiting(client, client.session(session_id)) as waiting:
            eventually(lambda: len(waiting.seen) > 2, what="some looks")
            api.cancel(session_id)
    assert waiting.ended[0].state == "cancelled"


@pytest.mark.parametrize("end", [Process.kill, Process.stop], ids=["killed", "stopped"])
def test_a_waiting_client_outlives_a_restart_of_the_server(
    start: Starter, end: Callable[[Process], object]
) -> None:
    api = start()
    session_id = api.add()
    client = Client(api.url, key=accounts.KEY)
    with Waiting(client, client.session(session_id)) as waiting:
        eventually(lambda: waiting.seen, what="the first event")
        end(api.process)
        api.cluster.serve(int(api.url.rsplit(":", 1)[1]))
        api.cancel(session_id)
    assert waiting.ended[0].state == "cancelled"
