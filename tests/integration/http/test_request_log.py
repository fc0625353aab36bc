"""Every request yields a row, a log line and a metric without delaying the answer."""

from __future__ import annotations

import json
import re
import threading
import time
import uuid
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import falcon.testing
import httpx
import psycopg
import pytest
import structlog.testing
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import Row, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from actors.execution.runtime import Runtime
from db.queries import partition_queries
from db.settings import Settings
from db.store import Store
from services.http import access_log, request_log
from services.http import exchange as exchanges
from services.http.exchange import Exchange
from services.http.request_log import RequestLog
from services.processes.server import free_port
from tests.support import accounts, partitions, recordings
from tests.support.api import client_of
from tests.support.cluster import Cluster, eventually

pytestmark = pytest.mark.integration

RECORDING = recordings.HEADER + bytes(300_000)


class UnreliableStore(Store):
    """A store whose transactions wait for ``open``, or fail a given number of times."""

    def __init__(self, url: str) -> None:
        super().__init__(url, pool_size=2)
        self.open = threading.Event()
        self.open.set()
        self.failures = 0

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        self.open.wait()
        if self.failures:
            self.failures -= 1
            raise OperationalError("COPY", {}, Exception("away"))
        with super().transaction() as tx:
            yield tx


@pytest.fixture
def unreliable(database_url: str) -> Iterator[UnreliableStore]:
    store = UnreliableStore(database_url)
    yield store
    store.open.set()
    store.close()


@pytest.fixture
def recorded() -> Iterator[Callable[..., RequestLog]]:
    """Create recorders and close them at the end."""
    made: list[RequestLog] = []

    def make(store: Store, **options: Any) -> RequestLog:
        made.append(RequestLog(store, **options))
        return made[-1]

    yield make
    for recorder in made:
        recorder.close()


def rows(store: Store) -> Sequence[Row[Any]]:
    with store.reading() as tx:
        return tx.execute(text("SELECT * FROM api_requests ORDER BY received_at, id")).all()


def figures(recorder: RequestLog) -> dict[str, float]:
    return {
        metric.name.removeprefix("clamor_request_records_"): metric.samples[0].value
        for metric in recorder.collect()
    }


def exchange(request_id: str = "id", **values: Any) -> Exchange:
    made = Exchange("GET")
    made.request_id = request_id
    made.key_id = "1" * 16
    for name, value in values.items():
        setattr(made, name, value)
    return made


def test_every_request_with_a_key_is_a_row(
    runtime: Runtime, recorded: Callable[..., RequestLog], store: Store
) -> None:
    recorder = recorded(store)
    api = client_of(
        runtime, settings=replace(runtime.settings, max_upload_bytes=400_000), recorder=recorder
    )
    wav = {"Content-Type": "audio/wav", "X-Request-ID": "mine-1"}
    posted = api.simulate_post("/v1/sessions", body=RECORDING, headers=wav)
    path = f"/v1/sessions/{posted.json['id']}"
    asked = api.simulate_get(path, query_string="")
    levels = api.simulate_get(f"{path}/levels")
    # Anybody can make these, so they have no rows.
    api.simulate_get("/what/is/this?secret=1", headers={"Authorization": "Bearer x"})
    api.simulate_get(path, headers={"Authorization": "Bearer nonsense"})
    api.simulate_put(path)
    for probe in exchanges.PROBES:
        api.simulate_get(probe)
    recorder.close()
    session_id = uuid.UUID(posted.json["id"])
    key_id = accounts.KEY.split("_")[1]
    item = "/v1/sessions/{session_id}"
    assert [
        (
            row.method,
            row.route,
            row.status,
            row.bytes_in,
            row.bytes_out,
            row.key_id,
            row.user_id,
            row.session_id,
            row.request_id,
        )
        for row in rows(store)
    ] == [
        (
            "POST",
            "/v1/sessions",
            202,
            len(RECORDING),
            len(posted.content),
            key_id,
            accounts.TEAM,
            session_id,
            "mine-1",
        ),
        (
            "GET",
            item,
            200,
            0,
            len(asked.content),
            key_id,
            accounts.TEAM,
            session_id,
            asked.headers["x-request-id"],
        ),
        (
            "GET",
            f"{item}/levels",
            409,
            0,
            len(levels.content),
            key_id,
            accounts.TEAM,
            session_id,
            levels.headers["x-request-id"],
        ),
    ]
    assert all(0 < row.duration_s < 60 for row in rows(store))


def test_a_full_queue_keeps_nobody_waiting(
    runtime: Runtime,
    recorded: Callable[..., RequestLog],
    unreliable: UnreliableStore,
    store: Store,
) -> None:
    recorder = recorded(unreliable, most_waiting=10)
    api = client_of(runtime, recorder=recorder)
    unreliable.open.clear()
    # Each request is answered while the writer is blocked.
    for _ in range(25):
        assert api.simulate_get("/v1/noise-types").status_code == 200
    assert figures(recorder) == {"waiting": 10, "written": 0, "dropped": 15}
    assert "clamor_request_records_dropped_total 15.0" in api.simulate_get("/metrics").text
    unreliable.open.set()
    recorder.close()
    assert len(rows(store)) == 10
    assert figures(recorder)["dropped"] == 15


def test_a_database_that_comes_back_is_given_what_waits(
    recorded: Callable[..., RequestLog],
    unreliable: UnreliableStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(request_log, "WRITE_S", 0.01)
    monkeypatch.setattr(request_log, "AWAY_S", 0.01)
    unreliable.failures = 3
    recorder = recorded(unreliable, most_waiting=10)
    for index in range(10):
        recorder.ended(exchange(str(index)))
    eventually(lambda: figures(recorder)["waiting"] == 0, what="the records")
    assert unreliable.failures == 0
    assert [row.request_id for row in rows(unreliable)] == [str(index) for index in range(10)]
    # There is room again.
    recorder.ended(exchange("later"))
    told = {"waiting": 0, "written": 11, "dropped": 0}
    eventually(lambda: figures(recorder) == told, what="the record of later")
    assert len(rows(unreliable)) == 11


def test_no_end_waits_for_a_database_that_hangs(
    recorded: Callable[..., RequestLog], unreliable: UnreliableStore
) -> None:
    recorder = recorded(unreliable)
    unreliable.open.clear()
    recorder.ended(exchange())
    recorder.close(timeout_s=0.05)
    assert figures(recorder)["waiting"] == 1


def test_odd_words_are_written_as_they_are_and_an_impossible_row_costs_itself_alone(
    recorded: Callable[..., RequestLog], store: Store
) -> None:
    odd = ["a\tb", "\\N", "\\.", "line\nline\r", "'; DROP TABLE users; --", "ä€😀", "", '{"}']
    recorder = recorded(store)
    for index, request_id in enumerate(odd):
        recorder.ended(exchange(request_id))
        if index % 3 == 0:
            recorder.ended(exchange("no text of Postgres's \x00"))
    recorder.ended(exchange("nobody's", user_id=uuid.uuid4()))
    recorder.close()
    assert sorted(row.request_id for row in rows(store)) == sorted(odd)
    assert figures(recorder) == {"waiting": 0, "written": len(odd), "dropped": 4}


def test_a_row_without_a_partition_waits_until_there_is_one(
    recorded: Callable[..., RequestLog],
    store: Store,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(request_log, "WRITE_S", 0.01)
    monkeypatch.setattr(request_log, "AWAY_S", 0.01)
    with psycopg.connect(database_url) as connection:
        for name in partitions.names(database_url):
            connection.execute(f"DROP TABLE {name}")
    with structlog.testing.capture_logs() as logs:
        recorder = recorded(store)
        for index in range(3):
            recorder.ended(exchange(str(index)))
        eventually(lambda: len(logs) > 1, what="two tries")
    assert {(each["event"], each["error"]) for each in logs} == {
        ("request_records_wait", "PartitionMissing")
    }
    assert figures(recorder) == {"waiting": 3, "written": 0, "dropped": 0}
    with store.transaction() as tx:
        assert len(partition_queries.create_partitions(tx)) == 8
    eventually(lambda: figures(recorder)["waiting"] == 0, what="the records")
    assert [row.request_id for row in rows(store)] == ["0", "1", "2"]
    assert figures(recorder)["dropped"] == 0


def test_the_clock_of_the_database_gives_the_time(
    recorded: Callable[..., RequestLog],
    store: Store,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A process whose clock is wrong by years, and a row that has waited for a minute."""
    partitions.add_since(database_url, datetime.now(UTC) - timedelta(days=1))
    monkeypatch.setattr(time, "time", lambda: 0.0)
    recorder = recorded(store)
    late = exchange("late")
    late.began_s -= 60.0
    recorder.ended(late)
    recorder.ended(exchange("prompt"))
    recorder.close()
    with store.reading() as tx:
        ages: dict[str, float] = dict(
            tx.execute(
                text(
                    "SELECT request_id, extract(epoch FROM clock_timestamp() - received_at)"
                    " FROM api_requests"
                )
            ).all()
        )
    assert 60 <= ages["late"] < 120
    assert 0 <= ages["prompt"] < 60


class Pieces:
    """Answers in two pieces."""

    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        resp.stream = iter([b"ab", b"cde"])

    def on_put(self, _req: falcon.Request, resp: falcon.Response) -> None:
        raise KeyboardInterrupt


class Told:
    """A listener that records its calls."""

    def __init__(self) -> None:
        self.n_begun = 0
        self.all: list[Exchange] = []

    def begun(self, _exchange: Exchange, /) -> None:
        self.n_begun += 1

    def ended(self, exchange: Exchange, /) -> None:
        self.all.append(exchange)
        raise RuntimeError("a listener that fails spoils no answer")


def test_an_exchange_ends_with_its_last_piece_or_when_it_is_broken_off() -> None:
    told = Told()
    app = exchanges.App(middleware=[], listeners=[told])
    app.add_route("/pieces", Pieces())

    def begin() -> Any:
        env = falcon.testing.create_environ("/pieces")
        return app(env, lambda *_head: None)

    whole = begin()
    assert next(whole) == b"ab"
    assert told.all == []
    assert list(whole) == [b"cde"]
    whole.close()
    broken = begin()
    next(broken)
    broken.close()
    begin().close()
    assert [(each.bytes_out, each.is_whole) for each in told.all] == [
        (5, True),
        (2, False),
        (0, False),
    ]
    with pytest.raises(KeyboardInterrupt):
        app(falcon.testing.create_environ("/pieces", method="PUT"), lambda *_head: None)
    assert told.all[-1].status == 500
    assert told.n_begun == len(told.all) == 4


def test_a_line_tells_no_secrets(
    runtime: Runtime,
    recorded: Callable[..., RequestLog],
    store: Store,
    capsys: pytest.CaptureFixture[str],
) -> None:
    api = client_of(runtime, recorder=recorded(store))
    asked = api.simulate_get("/v1/sessions/" + str(uuid.uuid4()), query_string="token=hush")
    api.simulate_get("/health/live")
    lines = capsys.readouterr().err.splitlines()
    (line,) = [json.loads(each) for each in lines if each.startswith("{")]
    assert line.pop("duration_s") > 0
    assert line.pop("timestamp").endswith("Z")
    session_id = line.pop("session_id")
    assert uuid.UUID(session_id)
    assert line == {
        "event": "request",
        "level": "info",
        "logger": "services.http.access_log",
        "method": "GET",
        "route": "/v1/sessions/{session_id}",
        "status": asked.status_code,
        "bytes_in": 0,
        "bytes_out": len(asked.content),
        "key_id": accounts.KEY.split("_")[1],
        "request_id": asked.headers["x-request-id"],
    }
    for quiet in ({"access_log": False}, {"log_level": "WARNING"}):
        settings = replace(runtime.settings, **quiet)
        api = client_of(runtime, settings=settings, recorder=recorded(store))
        api.simulate_get("/nowhere")
        assert '"request"' not in capsys.readouterr().err


def test_requests_without_a_key_are_counted_and_sampled(
    runtime: Runtime,
    recorded: Callable[..., RequestLog],
    store: Store,
    capsys: pytest.CaptureFixture[str],
) -> None:
    recorder = recorded(store)
    api = client_of(runtime, key="nonsense", recorder=recorder)
    began_s = time.monotonic()
    for _ in range(500):
        assert api.simulate_get("/v1/sessions").status_code == 401
    time.sleep(1 / access_log.STRANGERS_PER_S)
    api.simulate_get("/v1/sessions")
    took_s = time.monotonic() - began_s
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    # A second's worth at once, then the rate.
    assert 5 < len(lines) <= access_log.STRANGERS_PER_S * (1 + took_s) + 1
    assert sum(line.get("left_out", 0) for line in lines) == 501 - len(lines)
    metrics = api.simulate_get("/metrics").text
    [counted] = re.findall(r"clamor_http_requests_without_key_total{.*} (.*)", metrics)
    assert float(counted) == 501
    recorder.close()
    assert rows(store) == []


def test_requests_are_counted_and_timed_by_route(
    runtime: Runtime, recorded: Callable[..., RequestLog], store: Store
) -> None:
    api = client_of(runtime, recorder=recorded(store))
    for path in ("/v1/sessions/" + str(uuid.uuid4()), "/a", "/b", "/health/live"):
        api.simulate_get(path)
    with warnings.catch_warnings():
        # The test client's validator does not recognise the method either.
        warnings.simplefilter("ignore")
        api.simulate_request("BREW", "/pot")
    told = api.simulate_get("/metrics").text
    samples = {
        (
            sample.name,
            *(sample.labels.get(label) for label in ("route", "method", "status")),
        ): sample.value
        for family in text_string_to_metric_families(told)
        for sample in family.samples
        if "le" not in sample.labels
    }
    requests, timed = "clamor_http_requests_total", "clamor_http_request_duration_seconds_count"
    item = "/v1/sessions/{session_id}"
    assert samples[requests, item, "GET", "4xx"] == 1
    assert samples[requests, "(unknown)", "GET", "4xx"] == 2
    assert samples[requests, "(unknown)", "(other)", "4xx"] == 1
    assert samples[requests, "/health/live", "GET", "2xx"] == 1
    assert samples[timed, "(unknown)", None, None] == 3
    # The scrape itself.
    assert samples["clamor_http_requests_in_progress", None, None, None] == 1


def test_the_last_records_are_written_when_a_server_is_stopped(
    rabbit_settings: Settings, store: Store, tmp_path: Path
) -> None:
    with Cluster(rabbit_settings, tmp_path) as cluster:
        port = free_port()
        server = cluster.serve(port)
        for index in range(3):
            asked = httpx.get(
                f"http://127.0.0.1:{port}/v1/sessions?secret=hush",
                headers={"X-Request-ID": f"last-{index}"} | accounts.bearer(),
            )
            assert asked.status_code == 400
        assert server.stop() == 0
        assert [row.request_id for row in rows(store)] == ["last-0", "last-1", "last-2"]
        told = server.log.read_text()
    assert told.count('"event":"request"') == 3
    assert "hush" not in told
    assert accounts.KEY not in told


def test_connections_that_were_cut_are_replaced(
    recorded: Callable[..., RequestLog], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_log, "WRITE_S", 0.01)
    monkeypatch.setattr(request_log, "AWAY_S", 0.01)
    recorder = recorded(store)
    for round_trip in range(1, 4):
        recorder.ended(exchange(f"{round_trip}"))
        eventually(lambda: figures(recorder)["waiting"] == 0, what="the record")
        assert figures(recorder)["written"] == round_trip
        with store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(
                text(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
            )
