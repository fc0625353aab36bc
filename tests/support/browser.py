"""A real browser for the tests, and the application served to it from this process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import falcon
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright
from playwright.sync_api import Error as PlaywrightError

from tests.support import programs, servers


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start headless Chromium, or Chrome, from this machine.

    Raises
    ------
    servers.ServerUnavailable
        If the browser or the dependencies of Playwright's driver are not installed, or if it does
        not start.
    """
    for package in programs.missing(["libatomic1", "chromium"]):
        raise servers.ServerUnavailable(f"No browser: {programs.remedy(package)}")
    with sync_playwright() as playwright:
        try:
            started = playwright.chromium.launch(
                executable_path=programs.browser(),
                # There is no sandbox for root. The browser only opens pages of these tests.
                args=["--no-sandbox", "--disable-dev-shm-usage"],
            )
        except PlaywrightError as error:
            raise servers.ServerUnavailable(f"Chromium does not start: {error}") from error
        try:
            yield started
        finally:
            started.close()


@contextmanager
def served(app: falcon.App[Any, Any], stopping: threading.Event) -> Iterator[str]:
    """Serve an application from this process, one thread per request; return its URL.

    ``stopping`` ends its streams.
    """
    with make_server("127.0.0.1", 0, app, _Server, _Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            stopping.set()
            server.shutdown()
            thread.join()


def assert_accessible(page: Page) -> None:
    """Assert that axe finds no violation and that nothing scrolls sideways.

    Checks wide and narrow pages, light and dark.
    """
    for width in (1280, 390):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        for light in ("light", "dark"):
            page.emulate_media(color_scheme=light)
            found = Axe().run(page)
            assert not found.response["violations"], found.generate_report()


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Handler(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Do nothing: the application has its own log."""
