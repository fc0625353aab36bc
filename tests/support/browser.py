"""A real browser for the tests."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, sync_playwright
from playwright.sync_api import Error as PlaywrightError

from tests.support import servers

#: What systems call it.
NAMES = ("chromium", "chromium-browser", "google-chrome")


@contextmanager
def chromium() -> Iterator[Browser]:
    """Chromium, without a window; raises :class:`servers.ServerUnavailable` if it does not start.

    There is no sandbox, since root has none. It shows pages of these tests alone.
    """
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        raise servers.ServerUnavailable("No browser: chromium is not on the path.")
    with sync_playwright() as playwright:
        try:
            started = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        except PlaywrightError as error:
            raise servers.ServerUnavailable(f"Chromium does not start: {error}") from error
        try:
            yield started
        finally:
            started.close()
