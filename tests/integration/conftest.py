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
    """Workers in this process do what a test asks for, and nothing that the time of day does."""
    monkeypatch.setattr(jobs, "JOBS", ())


@pytest.fixture
def memory(memory_settings: Settings) -> StubBroker:
    """The in-memory broker, with every queue."""
    made = broker.setup(memory_settings)
    assert isinstance(made, StubBroker)
    return made


@pytest.fixture
def runtime(memory_settings: Settings, memory: StubBroker) -> Iterator[Runtime]:
    """What a worker process holds."""
    runtime = Runtime(memory_settings, memory)
    yield runtime
    runtime.close()
