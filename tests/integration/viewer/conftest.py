"""A browser, and the application that serves its pages over a separate database."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, expect

from actors.execution.runtime import Runtime
from actors.messaging import broker
from db.settings import Settings
from services.app import create_app
from services.http.deps import Deps
from tests.support import accounts, servers
from tests.support.api import App, deps_of
from tests.support.browser import chromium, served

#: Generous: a test waits this long only if something is wrong.
PATIENCE_MS = 60_000

expect.set_options(timeout=PATIENCE_MS)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One browser for all tests of this file."""
    try:
        with chromium() as started:
            yield started
    except servers.ServerUnavailable as reason:
        servers.unavailable(reason)


@pytest.fixture(scope="module")
def runtime(
    postgres_url: str,
    migrated_url: str,
    drop_later: Callable[[str], None],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Runtime]:
    """A worker over one database for all tests of this file; each test uses its own sessions."""
    database_url = servers.new_database(postgres_url, copy_of=migrated_url)
    settings = Settings(
        database_url=database_url,
        amqp_url="memory://",
        blob_url=(tmp_path_factory.mktemp("page") / "blobs").as_uri(),
        # A test may look at a session between its steps.
        one_claim_s=0.0,
        key_pepper=accounts.PEPPER,
        secret_keys=accounts.SECRET_KEYS,
        backbone_url="off",
    )
    runtime = Runtime(settings, broker.setup(settings))
    yield runtime
    runtime.close()
    drop_later(database_url)


@pytest.fixture(scope="module")
def deps(runtime: Runtime) -> Deps:
    return deps_of(runtime)


@pytest.fixture(scope="module")
def app(deps: Deps) -> App:
    return create_app(deps)


@pytest.fixture(scope="module")
def url(app: App, deps: Deps) -> Iterator[str]:
    with served(app, deps.stopping) as url:
        yield url


@pytest.fixture
def page(browser: Browser, url: str) -> Iterator[Page]:
    """A tab that fails its test on a script error, a policy violation or a foreign request."""
    wrong: list[str] = []

    def hear(message: ConsoleMessage) -> None:
        if "Content Security Policy" in message.text:
            wrong.append(message.text)

    def see(request: Request) -> None:
        if not request.url.startswith((url, f"blob:{url}")):
            wrong.append(f"asked for {request.url}")

    context = browser.new_context(base_url=url, viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", hear)
    page.on("request", see)
    yield page
    context.close()
    assert not wrong
