"""The served API description."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Literal
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Route

from services.http import errors
from tests.support import servers
from tests.support.api import Api
from tests.support.browser import chromium

pytestmark = pytest.mark.integration


def test_anyone_may_read_it_and_it_is_sent_once(anyone: Api) -> None:
    first = anyone.simulate_get("/openapi.json")
    assert first.status_code == 200
    assert first.headers["content-type"] == "application/json"
    assert first.json["openapi"] == "3.1.0"
    assert "/openapi.json" in first.json["paths"]
    etag = first.headers["etag"]
    for known in (etag, f'"other", W/{etag}', "*"):
        again = anyone.simulate_get("/openapi.json", headers={"If-None-Match": known})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == etag
    other = anyone.simulate_get("/openapi.json", headers={"If-None-Match": '"other"'})
    assert other.content == first.content


def test_the_command_prints_what_is_served(anyone: Api) -> None:
    printed = subprocess.run(
        [sys.executable, "-m", "services.cli", "openapi"], capture_output=True, check=True
    )
    assert json.loads(printed.stdout) == anyone.simulate_get("/openapi.json").json


def test_the_documentation_is_served_with_a_strict_policy(
    anyone: Api,
) -> None:
    for path in ("/docs", "/problems", *(f"/problems/{kind.name}" for kind in errors.kinds())):
        page = anyone.simulate_get(path)
        assert page.status_code == 200
        assert page.headers["content-type"].startswith("text/html")
        assert page.headers["content-security-policy"].startswith("default-src 'none'; style-src")
        assert page.headers["x-content-type-options"] == "nosniff"
        known = {"If-None-Match": page.headers["etag"]}
        assert anyone.simulate_get(path, headers=known).status_code == 304
    unknown = anyone.simulate_get("/problems/nothing")
    assert (unknown.status_code, unknown.json["type"]) == (404, "/problems/unknown-route")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with ExitStack() as stack:
        try:
            started = stack.enter_context(chromium())
        except servers.ServerUnavailable as reason:
            servers.unavailable(reason)
        yield started


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_shows_the_documentation(
    anyone: Api, browser: Browser, scheme: Literal["light", "dark"]
) -> None:
    def answered(route: Route) -> None:
        address = urlsplit(route.request.url)
        assert address.hostname == "clamor.test", "another host was asked"
        found = anyone.simulate_get(address.path)
        route.fulfill(status=found.status_code, headers=dict(found.headers), body=found.content)

    page = browser.new_page(viewport={"width": 390, "height": 844}, color_scheme=scheme)
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.route("**/*", answered)
    for path in ("/docs", "/problems", "/problems/invalid-manifest"):
        page.goto(f"http://clamor.test{path}")
        assert page.evaluate("getComputedStyle(document.body).margin") == "0px"
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        seen = Axe().run(page)
        assert seen.violations_count == 0, seen.generate_report()
    page.goto("http://clamor.test/docs#post_session_cancel")
    assert page.locator("article:target h3").inner_text() == (
        "POST /v1/sessions/{session_id}/cancel"
    )
    page.locator("summary").click()
    page.get_by_role("link", name="GET /sessions/{session_id}/levels").click()
    assert page.url.endswith("#get_session_levels")
    assert complaints == []
