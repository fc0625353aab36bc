"""``GET /metrics`` over a real database, with a broker that is available, away or silent."""

from __future__ import annotations

import re
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Self

import pika
import psycopg
import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import text

from actors.execution.runtime import Runtime
from actors.messaging import broker, kinds, messages
from actors.messaging.messages import ProcessAudioFile
from actors.observability import cached_probe
from actors.observability.cached_probe import CachedProbe
from db.blobs.keys import recording_key
from db.queries import server_queries, session_queries
from db.settings import Settings
from db.store import Store
from db.tables.base import Base
from services.api.admin import metrics
from services.processes.server import free_port
from tests.support import accounts, recordings
from tests.support.api import Api, app_of
from tests.support.clock import ask
from tests.support.cluster import eventually
from tests.support.planted import plant_invalid_index

pytestmark = pytest.mark.integration

ROOT = Path(__file__).resolve().parents[4]

#: Rules and dashboards, which ask for metrics.
ASKING = [ROOT / "deploy" / "prometheus" / "rules.yaml", *(ROOT / "deploy" / "grafana").iterdir()]

Samples = dict[tuple[str, str], float]


@pytest.fixture
def api_over() -> Iterator[Callable[[Settings], Api]]:
    """Return a factory of APIs over given settings."""
    with ExitStack() as stack:

        def make(settings: Settings) -> Api:
            runtime = Runtime(settings, broker.setup(settings))
            stack.callback(runtime.publisher.broker.close)
            stack.callback(runtime.close)
            return Api(app_of(runtime))

        yield make


def scrape(api: Api) -> Samples:
    """Return every sample by its name and its one label, if any."""
    answer = api.simulate_get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    return {
        (sample.name, next(iter(sample.labels.values()), "")): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def add_session(store: Store) -> uuid.UUID:
    session_id = uuid.uuid4()
    with store.transaction() as tx:
        session_queries.add_session(
            tx, id=session_id, file_name="a", size_bytes=1, recording_key=recording_key(session_id)
        )
    return session_id


class Gag:
    """A proxy to RabbitMQ that drops everything from the first queue declaration on."""

    #: Class and method of AMQP's Queue.Declare.
    QUESTION = b"\x00\x32\x00\x0a"

    def __init__(self, amqp_url: str) -> None:
        given = pika.URLParameters(amqp_url)
        self._server = (given.host, given.port)
        self._gagged = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        user = given.credentials
        port = self._listener.getsockname()[1]
        self.url = f"amqp://{user.username}:{user.password}@127.0.0.1:{port}"
        self._open: list[socket.socket] = []

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_failure: object) -> None:
        self._listener.close()
        for each in self._open:
            each.close()

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        server = socket.create_connection(self._server)
        self._open += [client, server]
        for source, sink in ((client, server), (server, client)):
            threading.Thread(target=self._pass_on, args=(source, sink), daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                self._gagged = self._gagged or self.QUESTION in data
                if not self._gagged:
                    sink.sendall(data)


def test_queues_and_sessions_are_told(
    api_over: Callable[[Settings], Api], rabbit_settings: Settings, store: Store
) -> None:
    add_session(store)
    cancelled = add_session(store)
    with store.transaction() as tx:
        session_queries.cancel_session(tx, cancelled)
    rabbit = broker.setup(rabbit_settings)
    prefix = rabbit_settings.queue_prefix
    for _ in range(2):
        messages.send(ProcessAudioFile(session_id=cancelled), broker=rabbit, prefix=prefix)
    rabbit.close()
    api = api_over(rabbit_settings)
    found = scrape(api)
    assert found["clamor_broker_up", ""] == 1
    assert found["clamor_database_up", ""] == 1
    queues = {kind.message.queue for kind in kinds.KINDS}
    for name in (
        "clamor_queue_ready",
        "clamor_queue_dead",
        "clamor_queue_consumers",
        "clamor_queue_held",
    ):
        assert {label for each, label in found if each == name} == queues
    assert found["clamor_queue_ready", "audio.process"] == 2
    assert found["clamor_queue_ready", "audio.detect"] == 0
    assert found["clamor_queue_dead", "audio.detect"] == 0
    assert found["clamor_queue_held", "audio.process"] == 0
    assert 0 < found["clamor_unfinished_oldest_seconds", ""] < 60
    assert found["clamor_sessions", "queued"] == 1
    assert found["clamor_sessions", "detecting"] == 0
    assert found["clamor_sessions", "cancelled"] == 1


def test_the_state_of_postgres(
    api_over: Callable[[Settings], Api], memory_settings: Settings, database_url: str
) -> None:
    plant_invalid_index(database_url)
    with psycopg.connect(database_url, application_name="clamor-scheduler") as connection:
        connection.execute("SELECT 1")
        found = scrape(api_over(memory_settings))
        connection.rollback()
    assert found["clamor_database_transaction_oldest_seconds", ""] > 0
    assert 0 < found["clamor_database_xid_share", ""] < 0.5
    assert found["clamor_database_invalid_indexes", ""] == 1
    assert found["clamor_database_connections", "clamor-scheduler"] == 1
    for name in ("clamor_database_live_rows", "clamor_database_dead_rows"):
        assert set(Base.metadata.tables) <= {label for each, label in found if each == name}


def test_a_query_that_hangs_costs_only_the_state_of_postgres(
    api_over: Callable[[Settings], Api],
    memory_settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server_queries, "_SERVER", text("SELECT pg_sleep(4)"))
    api = api_over(memory_settings)
    started = time.monotonic()
    found = scrape(api)
    assert time.monotonic() - started < 2 * cached_probe.PATIENCE_S
    assert not [name for name, _ in found if name == "clamor_database_xid_share"]
    assert found["clamor_database_up", ""] == 1
    assert found["clamor_sessions", "queued"] == 0


def test_a_scrape_soon_after_asks_nobody_again(
    api_over: Callable[[Settings], Api],
    memory_settings: Settings,
    store: Store,
) -> None:
    api = api_over(memory_settings)
    assert scrape(api)["clamor_sessions", "queued"] == 0
    add_session(store)
    assert scrape(api)["clamor_sessions", "queued"] == 0
    # Another application does not share the first one's cached figures.
    assert scrape(api_over(memory_settings))["clamor_sessions", "queued"] == 1


def test_the_standalone_service_tells_of_its_memory(
    api_over: Callable[[Settings], Api],
    memory_settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(metrics, "FRESH_S", 0.0)
    api = api_over(memory_settings)
    # No worker runs, so the message of a posted recording stays in its queue.
    posted = api.simulate_post(
        "/v1/sessions",
        body=recordings.HEADER,
        headers={"Content-Type": "audio/wav"} | accounts.bearer(),
    )
    assert posted.status_code == 202
    ready = ("clamor_queue_ready", "audio.process")

    def told() -> Samples | None:
        found = scrape(api)
        return found if found[ready] == 1 else None

    found = eventually(told, what="its message")
    assert found["clamor_queue_unacked", "audio.process"] == 0
    assert found["clamor_queue_dead", "audio.process"] == 0


def test_every_metric_is_documented_and_the_alerts_ask_for_nothing_else(
    api_over: Callable[[Settings], Api], memory_settings: Settings, runtime: Runtime
) -> None:
    # Once a health check has run, its findings are exported.
    ask(runtime, messages.CheckHealth())
    scraped = api_over(memory_settings).simulate_get("/metrics").text
    exported = {
        family.name + ("_total" if family.type == "counter" else "")
        for family in text_string_to_metric_families(scraped)
    }
    documented, asked = (
        set(re.findall(r"clamor_[a-z_]+", "".join(file.read_text() for file in files)))
        for files in ([ROOT / "docs" / "reliability.md"], ASKING)
    )
    # What Prometheus adds to the name of a histogram.
    asked = {re.sub(r"(_seconds)_(bucket|sum|count)$", r"\1", name) for name in asked}
    assert exported <= documented
    assert asked
    assert asked <= exported


def test_a_broker_that_is_away_costs_only_its_figures(
    api_over: Callable[[Settings], Api], rabbit_settings: Settings
) -> None:
    nobody = f"amqp://guest:guest@127.0.0.1:{free_port()}"
    found = scrape(api_over(replace(rabbit_settings, amqp_url=nobody)))
    assert found["clamor_broker_up", ""] == 0
    assert not [name for name, _ in found if name == "clamor_queue_ready"]
    assert found["clamor_database_up", ""] == 1
    assert found["clamor_sessions", "queued"] == 0
    assert found["clamor_queue_held", "audio.detect"] == 0


def test_a_broker_that_says_nothing_holds_no_scrape_up(
    api_over: Callable[[Settings], Api], rabbit_settings: Settings
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"amqp://guest:guest@127.0.0.1:{silent.getsockname()[1]}"
        api = api_over(replace(rabbit_settings, amqp_url=url))
        started = time.monotonic()
        answers: list[Samples] = []
        threads = [threading.Thread(target=lambda: answers.append(scrape(api))) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        # All requests waited for the same answer, not for one another.
        assert time.monotonic() - started < 2 * cached_probe.PATIENCE_S
    assert [found["clamor_broker_up", ""] for found in answers] == [0] * 8
    assert [found["clamor_database_up", ""] for found in answers] == [1] * 8


def test_a_broker_that_falls_silent_in_the_middle_holds_no_scrape_up(
    api_over: Callable[[Settings], Api], rabbit_settings: Settings
) -> None:
    """A hung broker accepts the connection but answers nothing."""
    with Gag(rabbit_settings.amqp_url) as gag:
        api = api_over(replace(rabbit_settings, amqp_url=gag.url))
        started = time.monotonic()
        found = scrape(api)
        assert time.monotonic() - started < 2 * cached_probe.PATIENCE_S
        assert found["clamor_broker_up", ""] == 0
        assert found["clamor_database_up", ""] == 1
        # The query itself ends too, through its heartbeat, so threads do not pile up.
        eventually(
            lambda: not [each for each in threading.enumerate() if each.name == "metrics-broker"],
            timeout_s=30,
            what="the end of the look",
        )


def test_a_database_that_is_away_costs_only_its_figures(
    api_over: Callable[[Settings], Api], memory_settings: Settings
) -> None:
    nobody = f"postgresql://postgres@127.0.0.1:{free_port()}/none"
    found = scrape(api_over(replace(memory_settings, database_url=nobody)))
    assert found["clamor_database_up", ""] == 0
    assert found["clamor_broker_up", ""] == 1
    assert found["clamor_queue_ready", "audio.process"] == 0
    assert not [name for name, _ in found if name == "clamor_sessions"]


def test_one_asks_while_the_others_wait_and_old_answers_are_not_kept() -> None:
    asked: list[int] = []
    go_on = threading.Event()

    def question() -> int:
        asked.append(1)
        go_on.wait(10)
        return len(asked)

    latest = CachedProbe("question", question, fresh_s=0.0)
    first, second = latest.ask(), latest.ask()
    assert first is second
    go_on.set()
    assert first.result(10) == 1
    assert latest.get() == 2
    assert len(asked) == 2
