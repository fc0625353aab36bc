"""A worker in this process, and an application over the same store, blobs and broker.

A file that needs other settings overrides ``memory_settings``, on which all of these depend.
"""

from __future__ import annotations

from collections.abc import Iterator

import falcon.testing
import pytest
from dramatiq.brokers.stub import StubBroker

from actors.execution.runtime import Runtime
from actors.messaging import broker
from actors.scheduling import jobs
from db.blobs.blob_store import Blobs
from db.settings import Settings
from tests.support import accounts, s3
from tests.support.api import Api, App, app_of


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


@pytest.fixture
def app(runtime: Runtime) -> App:
    """The application."""
    return app_of(runtime)


@pytest.fixture
def api(app: App) -> Api:
    """A client of the application with the team's key."""
    return accounts.client(app)


@pytest.fixture
def admin(app: App) -> Api:
    """A client of the application with the administrator's key."""
    return accounts.client(app, accounts.ADMIN_KEY)


@pytest.fixture
def anyone(app: App) -> Api:
    """A client of the application without a key."""
    return falcon.testing.TestClient(app)


@pytest.fixture(scope="module", params=["file", "s3"])
def blobs(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Blobs]:
    """A blob store in a folder, and in a bucket."""
    if request.param == "file":
        yield Blobs((tmp_path_factory.mktemp("blobs") / "with space").as_uri())
        return
    with s3.private_s3() as server, pytest.MonkeyPatch.context() as patched:
        for name, value in server.environment.items():
            patched.setenv(name, value)
        yield Blobs(f"s3://{s3.BUCKET}/prefix")
