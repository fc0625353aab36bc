"""Workers without RabbitMQ take their work from the rows, and messages again once it is back."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from db.settings import Settings
from services.client import Client
from tests.support import recordings, servers
from tests.support.cluster import Cluster, eventually

pytestmark = pytest.mark.acceptance

#: The end of a recording that no message announces, on a busy machine. Recovery's lease is longer.
COMPLETED_S = 20.0
#: The answer to a post, which waits for no message.
ANSWER_S = 2.0
LEASE_S = 60.0


@pytest.fixture
def rabbitmq() -> Iterator[servers.PrivateRabbitmq]:
    try:
        with servers.private_rabbitmq() as server:
            yield server
    except servers.ServerUnavailable as reason:
        servers.unavailable(reason)


def await_lines(log: Path, event: str, times: int) -> None:
    def found() -> bool:
        return log.read_text().count(f'"event": "{event}"') >= times

    eventually(found, what=f"{event}; see {log}")


def completed_in(client: Client, recording: Path) -> float:
    """Return how long it took from the post of a recording to its end."""
    began = time.monotonic()
    session = client.wait(client.upload(recording))
    assert session.state == "completed"
    return time.monotonic() - began


def test_recordings_are_completed_without_rabbitmq(
    memory_settings: Settings, rabbitmq: servers.PrivateRabbitmq, tmp_path: Path
) -> None:
    settings = replace(
        memory_settings, amqp_url=rabbitmq.url, queue_prefix="without", lease_s=LEASE_S
    )
    recording = tmp_path / "demo.flac"
    recording.write_bytes(recordings.encode(recordings.demo()))
    with Cluster(settings, tmp_path) as cluster, cluster.api() as client:
        scheduler = cluster.start("scheduler")
        eventually(lambda: "Starting Periodiq" in scheduler.log.read_text(), what="a scheduler")
        rabbitmq.stop()
        worker = cluster.worker()
        for times in (1, 2):
            await_lines(worker.log, "broker_away", times)
            # Each with all steps of the pipeline.
            assert max(completed_in(client, recording) for _ in range(2)) < COMPLETED_S
            if times == 2:
                break
            rabbitmq.start()
            await_lines(worker.log, "broker_back", 1)
            completed_in(client, recording)
            rabbitmq.stop()
    # Nothing was lost, and libraries do not say that it was. One line tells of each outage.
    for log in tmp_path.glob("*.log"):
        levels = [json.loads(line)["level"] for line in log.read_text().splitlines()]
        assert "critical" not in levels
    assert worker.log.read_text().count('"event": "broker_away"') == 2


@pytest.mark.parametrize("fault", ["stands_still", "raises_an_alarm"])
def test_a_rabbitmq_that_takes_no_messages_delays_nothing(
    memory_settings: Settings, rabbitmq: servers.PrivateRabbitmq, tmp_path: Path, fault: str
) -> None:
    settings = replace(memory_settings, amqp_url=rabbitmq.url, queue_prefix=fault, lease_s=5.0)
    recording = tmp_path / "demo.flac"
    recording.write_bytes(recordings.encode(recordings.demo()))
    with Cluster(settings, tmp_path) as cluster, cluster.api() as client:
        worker = cluster.worker()
        completed_in(client, recording)
        if fault == "stands_still":
            rabbitmq.freeze()
        else:
            rabbitmq.control("set_vm_memory_high_watermark", "0.000001")
        try:
            for times in (1, 2, 3):
                began = time.monotonic()
                session_id = client.upload(recording)
                assert time.monotonic() - began < ANSWER_S
                assert client.wait(session_id).state == "completed"
                if times == 1:
                    await_lines(worker.log, "broker_away", 1)
                else:
                    assert time.monotonic() - began < COMPLETED_S
        finally:
            if fault == "stands_still":
                rabbitmq.thaw()
            else:
                rabbitmq.control("set_vm_memory_high_watermark", "0.4")
        await_lines(worker.log, "broker_back", 1)
        assert completed_in(client, recording) < COMPLETED_S
