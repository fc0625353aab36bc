"""Real workers and a real scheduler answer probes and metrics, right with several processes."""

from __future__ import annotations

import re
from collections import defaultdict
from contextlib import closing
from functools import partial
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from db.settings import Settings
from services.client import Client
from services.processes.server import free_ports
from tests.support import accounts, recordings
from tests.support.cluster import Cluster, eventually

pytestmark = pytest.mark.acceptance

ROOT = Path(__file__).resolve().parents[2]
#: How often two processes that share a port are asked, so that both have answered.
SCRAPES = 24

#: These are exposed once a health check has ended.
OF_HEALTH_CHECK = {"clamor_health_ok", "clamor_health_checked_timestamp_seconds"}

#: Values by name and labels without the process; the sum of the processes.
Sums = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scrape(port: int) -> dict[str, Sums]:
    """Scrape the processes behind a port until both have answered; return samples by process."""
    latest: dict[str, Sums] = {}
    for _ in range(SCRAPES):
        text = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=10).text
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                labels = dict(sample.labels)
                process = labels.pop("process", "")
                of_process = latest.setdefault(process, {})
                of_process[sample.name, frozenset(labels.items())] = sample.value
    return latest


def sums(port: int) -> dict[str, float]:
    """Return the sum of each metric over its labels and the processes behind a port."""
    found: dict[str, float] = defaultdict(float)
    for samples in scrape(port).values():
        for (name, _), value in samples.items():
            found[name] += value
    return found


def exposed(*ports: int) -> set[str]:
    """Return the names of all metrics and samples that are exposed at ports."""
    text = "".join(httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=10).text for port in ports)
    families = text_string_to_metric_families(text)
    return {
        name
        for family in families
        for name in (family.name, f"{family.name}_total", *(each.name for each in family.samples))
    }


def status(port: int, path: str) -> int:
    """Return the status of an answer; 0 if nothing listens."""
    try:
        return httpx.get(f"http://127.0.0.1:{port}{path}", timeout=10).status_code
    except httpx.TransportError:
        return 0


def test_workers_and_the_scheduler_show_what_they_do(
    rabbit_settings: Settings, tmp_path: Path
) -> None:
    of_workers, of_scheduler, of_api = free_ports(3)
    samples = recordings.demo()[: 2 * recordings.RATE_HZ]
    file = recordings.write(tmp_path / "clip.flac", recordings.encode(samples))
    with Cluster(rabbit_settings, tmp_path) as cluster:
        cluster.env["CLAMOR_PROBE_ADDRESS"] = f"127.0.0.1:{of_scheduler}"
        scheduler = cluster.start("scheduler")
        cluster.env["CLAMOR_PROBE_ADDRESS"] = f"127.0.0.1:{of_workers}"
        worker = cluster.worker(processes=2)
        del cluster.env["CLAMOR_PROBE_ADDRESS"]
        cluster.serve(of_api)
        with closing(Client(f"http://127.0.0.1:{of_api}", key=accounts.ADMIN_KEY)) as client:
            sessions = [client.upload(file) for _ in range(6)]
            for session in sessions:
                client.wait(session)

        def counted() -> bool:
            return sums(of_workers)["clamor_recordings_total"] == len(sessions)

        eventually(counted, what="the recordings in the metrics of the workers")
        by_process = scrape(of_workers)
        assert len(by_process) == 2
        total = sums(of_workers)
        assert total["clamor_recording_turnaround_seconds_count"] == len(sessions)
        assert total["clamor_audio_seconds_total"] == pytest.approx(2.0 * len(sessions), abs=0.1)
        assert total["clamor_build_info"] == 2
        assert total["clamor_database_pool_size"] == 2 * rabbit_settings.worker_pool_size
        assert total["clamor_actor_run_duration_seconds_count"] >= len(sessions)

        of_the_installation = sums(of_scheduler)
        assert "clamor_work_due" in of_the_installation
        assert "clamor_oldest_due_seconds" in of_the_installation
        for port in (of_workers, of_scheduler):
            assert status(port, "/health/live") == 200
            assert status(port, "/health/ready") == 200
            assert status(port, "/v1/sessions") == 404
        # Prometheus adds `up`, and rules what they record; those have other names.
        asked = {
            name
            for file in (
                ROOT / "deploy/prometheus/rules.yaml",
                *(ROOT / "deploy/grafana").iterdir(),
            )
            for name in re.findall(r"clamor_[a-z_]+", file.read_text())
        }
        assert asked - exposed(of_api, of_workers, of_scheduler) <= OF_HEALTH_CHECK
        documented = set(re.findall(r"clamor_[a-z_]+", (ROOT / "docs/reliability.md").read_text()))
        names = {re.sub(r"_(bucket|count|sum)$", "", name) for name in total}
        assert names <= documented
        for process in (worker, scheduler):
            assert process.stop() == 0
        gone = partial(status, of_workers, "/health/live")
        assert gone() == 0
