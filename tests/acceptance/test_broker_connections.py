"""What a worker takes of RabbitMQ, and how it ends without one."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from actors.messaging import kinds
from db.settings import Settings
from services.client import Client
from services.client.wire.sessions import Session
from services.processes.server import free_port
from tests.support import recordings, servers
from tests.support.cluster import Cluster, Process, eventually

pytestmark = pytest.mark.acceptance

#: Connections of a worker: one publishes, one consumes.
MOST_CONNECTIONS = 2


@pytest.fixture(scope="module")
def rabbitmq() -> Iterator[servers.PrivateRabbitmq]:
    try:
        with servers.private_rabbitmq() as server:
            yield server
    except servers.ServerUnavailable as reason:
        servers.unavailable(reason)


def consumers(rabbitmq: servers.PrivateRabbitmq) -> dict[str, int]:
    """Return the number of consumers by queue."""
    listed = rabbitmq.control("list_queues", "name", "consumers").splitlines()
    rows = (line.split() for line in listed)
    return {row[0]: int(row[1]) for row in rows if row[1:] and row[1].isdigit()}


def listed(rabbitmq: servers.PrivateRabbitmq, what: str) -> int:
    """Count the connections or channels of the broker."""
    lines = rabbitmq.control(f"list_{what}", "pid").splitlines()
    return sum(line.startswith("<") for line in lines)


def events(process: Process, event: str) -> list[dict[str, object]]:
    lines = (json.loads(line) for line in process.log.read_text().splitlines() if line[:1] == "{")
    return [line for line in lines if line["event"] == event]


def test_a_worker_keeps_two_connections_and_a_channel_for_each_queue(
    memory_settings: Settings, rabbitmq: servers.PrivateRabbitmq, tmp_path: Path
) -> None:
    settings = replace(memory_settings, amqp_url=rabbitmq.url, queue_prefix="few", recovery_s=0.3)
    recording = tmp_path / "demo.flac"
    recording.write_bytes(recordings.encode(recordings.demo()))
    with Cluster(settings, tmp_path) as cluster:
        worker = cluster.worker()
        most = 0

        def is_listening() -> bool:
            nonlocal most
            most = max(most, listed(rabbitmq, "connections"))
            return list(consumers(rabbitmq).values()).count(1) == len(kinds.KINDS)

        eventually(is_listening, timeout_s=120, what="a consumer of each queue")
        queues = set(consumers(rabbitmq))
        # A queue and its dead letters for each kind of work; nothing is delayed.
        assert len(queues) == 2 * len(kinds.KINDS)
        assert not any(queue.endswith(".DQ") for queue in queues)
        with cluster.api() as client:
            sent = [client.upload(recording) for _ in range(6)]
            # The API publishes over one more connection, and opens another one for each probe.
            for session in sent:
                assert ended(client, session) == "completed"
                most = max(most, listed(rabbitmq, "connections") - 2)
        assert worker.stop() == 0
        assert most <= MOST_CONNECTIONS
        assert events(worker, "broker_away") == []


def ended(client: Client, session: Session) -> str:
    return client.wait(session).state


def test_channels_are_those_of_the_queues(
    memory_settings: Settings, rabbitmq: servers.PrivateRabbitmq, tmp_path: Path
) -> None:
    settings = replace(memory_settings, amqp_url=rabbitmq.url, queue_prefix="channels")
    with Cluster(settings, tmp_path) as cluster:
        worker = cluster.worker()
        mine = {f"channels.{kind.message.queue}" for kind in kinds.KINDS}

        def is_listening() -> bool:
            found = consumers(rabbitmq)
            return all(found.get(queue) == 1 for queue in mine)

        eventually(is_listening, timeout_s=120, what="a consumer of each queue")
        # One for each queue, one to declare them, and one to publish.
        assert listed(rabbitmq, "channels") <= len(kinds.KINDS) + 2
        # A queue that is removed under its consumer is declared and consumed again, alone.
        rabbitmq.control("delete_queue", "channels.audio.detect")
        eventually(is_listening, timeout_s=60, what="the consumer of the new queue")
        assert listed(rabbitmq, "connections") <= MOST_CONNECTIONS
        assert worker.stop() == 0


def test_a_worker_that_finds_no_broker_says_so_once_and_ends_cleanly(
    memory_settings: Settings, tmp_path: Path
) -> None:
    nowhere = f"amqp://guest:guest@127.0.0.1:{free_port()}/"
    settings = replace(memory_settings, amqp_url=nowhere, queue_prefix="none", recovery_s=0.3)
    port = free_port()
    with Cluster(settings, tmp_path) as cluster:
        cluster.env["CLAMOR_PROBE_ADDRESS"] = f"127.0.0.1:{port}"
        worker = cluster.worker()
        eventually(lambda: events(worker, "broker_away"), what="the line")
        # Several tries, at growing pauses.
        time.sleep(6)
        assert len(events(worker, "broker_away")) == 1
        ready = httpx.get(f"http://127.0.0.1:{port}/health/ready")
        assert (ready.status_code, ready.json()["checks"]["broker"]) == (503, "away")
        # Only after `actors.worker.UNWELL_S`, since it works by polling.
        assert httpx.get(f"http://127.0.0.1:{port}/health/live").status_code == 200
        began = time.monotonic()
        assert worker.stop() == 0
        assert time.monotonic() - began < 15
    log = worker.log.read_text()
    assert "Traceback" not in log
    assert "RuntimeError" not in log
