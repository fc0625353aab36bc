"""Metrics of a process: each series has its process, and a service level counts to the second."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.samples import Sample

from actors.observability import metrics
from actors.observability.metrics import ProcessMetrics
from db.store import Store


@pytest.fixture
def store() -> Iterator[Store]:
    """A store that never connects."""
    unused = Store("postgresql://postgres@127.0.0.1:9/none", pool_size=3)
    yield unused
    unused.close()


def samples(store: Store) -> list[Sample]:
    """Return what a scrape of a worker yields."""
    registry = CollectorRegistry()
    registry.register(ProcessMetrics("worker", store))
    return [sample for family in registry.collect() for sample in family.samples]


def value(store: Store, name: str, **labels: str) -> float:
    """Return the value of a series."""
    wanted = {**labels, "process": str(os.getpid())}
    [found] = [each for each in samples(store) if (each.name, each.labels) == (name, wanted)]
    return found.value


def test_every_series_has_its_process_and_a_second_scrape_is_the_same(store: Store) -> None:
    first = samples(store)
    assert {each.labels["process"] for each in first} == {str(os.getpid())}
    assert samples(store) == first
    assert value(store, "clamor_database_pool_size") == 3
    assert value(store, "clamor_database_pool_in_use") == 0


@pytest.mark.parametrize(
    ("audio_s", "turnaround_s", "in_time"),
    [(0.0, 30.0, "true"), (0.0, 30.1, "false"), (60.0, 150.0, "true"), (60.0, 151.0, "false")],
)
def test_a_recording_is_in_time_within_twice_its_length_and_half_a_minute(
    audio_s: float, turnaround_s: float, in_time: str, store: Store
) -> None:
    def counts() -> dict[str, float]:
        return {
            each: value(store, "clamor_recordings_total", state="completed", in_time=each)
            for each in ("true", "false")
        }

    before, audio_before = counts(), value(store, "clamor_audio_seconds_total")
    metrics.recording_ended("completed", audio_s=audio_s, turnaround_s=turnaround_s)
    assert counts() == before | {in_time: before[in_time] + 1}
    assert value(store, "clamor_audio_seconds_total") == audio_before + audio_s


def test_a_run_without_work_has_no_duration(store: Store) -> None:
    metrics.run_ended("made_up", "nothing_to_do", duration_s=1.0, had_work=False)
    metrics.run_ended("made_up", "done", duration_s=2.0, had_work=True)
    name = "clamor_actor_run_duration_seconds"
    assert value(store, f"{name}_count", actor="made_up") == 1
    assert value(store, f"{name}_sum", actor="made_up") == 2.0
    runs = "clamor_actor_runs_total"
    assert value(store, runs, actor="made_up", result="nothing_to_do") == 1
    metrics.expect_runs("another")
    assert value(store, runs, actor="another", result="given_up") == 0
