"""A worker's collaborators in this process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from dramatiq.brokers.stub import StubBroker

from actors.execution.runtime import Runtime
from actors.messaging import broker
from actors.scheduling import jobs
from db.settings import Settings


@pytest.fixture(autouse=True)
def no_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the periodic jobs, so that workers in this process do only what a test requests."""
    monkeypatch.setattr(jobs, "JOBS", ())


@pytest.fixture
def memory(memory_settings: Settings) -> StubBroker:
    """The in-memory broker, with every queue."""
    made = broker.setup(memory_settings)
    assert isinstance(made, StubBroker)
    return made


@pytest.fixture
def runtime(memory_settings: Settings, memory: StubBroker) -> Iterator[Runtime]:
    """A worker's runtime over the in-memory broker."""
    runtime = Runtime(memory_settings, memory)
    yield runtime
    runtime.close()
