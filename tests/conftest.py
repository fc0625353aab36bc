"""Real servers for the tests that need them, and a database and queues of their own for each."""

from __future__ import annotations

import gc
import os
import uuid
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import hypothesis
import pika
import pytest
import structlog
from xdist.scheduler import LoadFileScheduling

from actors.messaging import kinds, messages
from db import migrate
from db.settings import Settings
from db.store import Store
from tests.support import accounts, servers
from tests.support.folders import passable_folder

# Answers in tests, and of the processes that they start, do not depend on the weights of the
# backbone that this machine has.
os.environ["CLAMOR_BACKBONE_URL"] = "off"
# A process that crashes in native code leaves the stacks of its threads.
os.environ["PYTHONFAULTHANDLER"] = "1"

# An example that takes long on a busy machine is no failure. Every run draws other examples, so a
# developer's many runs try fewer each than CI's few.
hypothesis.settings.register_profile(
    "clamor", deadline=None, max_examples=100 if os.environ.get("CI") == "true" else 12
)
hypothesis.settings.load_profile("clamor")


class OneServiceAtATime(LoadFileScheduling):  # type: ignore[misc]
    """Each file in one process, and all that start, kill and time whole services in one."""

    def _split_scope(self, nodeid: str) -> str:
        file: str = super()._split_scope(nodeid)
        return "services" if file.startswith("tests/acceptance/") else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> OneServiceAtATime:
    """Share out the tests, where they run in several processes."""
    return OneServiceAtATime(config, log)


def _url(server: Callable[[], AbstractContextManager[str]]) -> Iterator[str]:
    """A server's URL; without one the test is skipped with the reason, and fails in CI."""
    with ExitStack() as stack:
        try:
            url = stack.enter_context(server())
        except servers.ServerUnavailable as reason:
            servers.unavailable(reason)
        yield url


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Keep the garbage collector from walking what tests import: those objects stay anyway."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.fixture(scope="session", autouse=True)
def plain_tracebacks() -> None:
    """Logs as by structlog's default, except that a traceback does not show every variable: to
    draw a recording's samples takes half a minute.
    """
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.dev.ConsoleRenderer(
                colors=False, exception_formatter=structlog.dev.plain_traceback
            ),
        ]
    )


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A folder of this test's own, which may be the home of a standalone service.

    Root's embedded Postgres is another user, and cannot pass through the folders of pytest's own
    fixture: those are closed.
    """
    with passable_folder() as folder:
        yield folder


@pytest.fixture(scope="session", autouse=True)
def known_to_commands() -> Iterator[None]:
    """Commands that tests start show the administrator's key."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLAMOR_API_KEY", accounts.ADMIN_KEY)
        yield


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A Postgres on which databases may be made."""
    yield from _url(servers.postgres)


@pytest.fixture(scope="session")
def amqp_url() -> Iterator[str]:
    """A RabbitMQ on which queues may be made."""
    yield from _url(servers.rabbitmq)


@pytest.fixture(scope="session")
def migrated_url(postgres_url: str) -> Iterator[str]:
    """A database at the newest revision with the users of the tests, for others to be copies of."""
    with servers.database(postgres_url) as url:
        migrate.upgrade(url)
        accounts.add_first(url)
        yield url


@pytest.fixture(scope="session")
def drop_later(postgres_url: str) -> Iterator[Callable[[str], None]]:
    """Drops databases while other tests run: each drop waits a second for a checkpoint."""
    dropped: list[Future[None]] = []
    with ThreadPoolExecutor(1) as pool:
        yield lambda url: dropped.append(
            pool.submit(servers.drop_database, url, server_url=postgres_url)
        )
    for each in dropped:
        each.result()


@pytest.fixture
def database_url(
    postgres_url: str, migrated_url: str, drop_later: Callable[[str], None]
) -> Iterator[str]:
    """A database of this test's own at the newest revision; it has the tests' users alone."""
    url = servers.new_database(postgres_url, copy_of=migrated_url)
    yield url
    drop_later(url)


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    """A store over a database of its own."""
    store = Store(database_url, pool_size=10)
    yield store
    store.close()


@pytest.fixture
def memory_settings(database_url: str, tmp_path: Path) -> Settings:
    """Settings with a real Postgres and the in-memory broker.

    Each step has its own claim, so that a test can look at the session between them.
    """
    return Settings(
        database_url=database_url,
        amqp_url="memory://",
        blob_url=(tmp_path / "blobs").as_uri(),
        lease_s=5.0,
        one_claim_s=0.0,
        key_pepper=accounts.PEPPER,
        secret_keys=accounts.SECRET_KEYS,
        backbone_url="off",
    )


@pytest.fixture
def rabbit_settings(database_url: str, amqp_url: str, tmp_path: Path) -> Iterator[Settings]:
    """Settings with a real Postgres and a real RabbitMQ; their queues are removed at the end."""
    settings = Settings(
        database_url=database_url,
        amqp_url=amqp_url,
        blob_url=(tmp_path / "blobs").as_uri(),
        queue_prefix=f"test-{uuid.uuid4().hex[:12]}",
        lease_s=3.0,
        recovery_s=0.5,
        key_pepper=accounts.PEPPER,
        secret_keys=accounts.SECRET_KEYS,
        backbone_url="off",
    )
    yield settings
    connection = pika.BlockingConnection(pika.URLParameters(amqp_url))
    channel = connection.channel()
    for kind in kinds.KINDS:
        name = messages.queue_name(kind.message, prefix=settings.queue_prefix)
        for queue in (name, f"{name}.DQ", f"{name}.XQ"):
            channel.queue_delete(queue)
    connection.close()
