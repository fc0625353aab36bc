"""Links to the pages, and the headers and files they are served with."""

from __future__ import annotations

import re
import uuid
from importlib.metadata import version

import pytest

from actors.execution.runtime import Runtime
from db.settings import Settings
from services.http import errors
from tests.support.api import Api

pytestmark = pytest.mark.integration

#: As Chromium sends it for a typed URL.
BROWSER = (
    "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,"
    "*/*;q=0.8,application/signed-exchange;v=b3;q=0.7"
)


@pytest.mark.parametrize("accept", [BROWSER, "text/html", "text/html, application/json;q=0.9"])
def test_a_browser_is_led_to_the_start_page(anyone: Api, accept: str) -> None:
    led = anyone.simulate_get("/", headers={"Accept": accept})
    assert (led.status_code, led.headers["location"]) == (303, "/sessions")
    assert led.headers["vary"] == "Accept"
    assert "no-cache" in led.headers["cache-control"]
    page = anyone.simulate_get(led.headers["location"], headers={"Accept": accept})
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"


@pytest.mark.parametrize(
    "accept",
    ["*/*", "application/json", "application/json, text/html", "image/png", "nonsense", ""],
)
def test_a_program_gets_a_short_index(anyone: Api, runtime: Runtime, accept: str) -> None:
    index = anyone.simulate_get("/", headers={"Accept": accept})
    assert index.status_code == 200
    assert index.headers["content-type"] == "application/json"
    assert index.headers["vary"] == "Accept"
    assert index.json["name"] == "Clamor"
    assert index.json["version"] == version("clamor")
    assert index.json["limits"] == {"max_upload_bytes": runtime.settings.max_upload_bytes}
    for path in index.json["links"].values():
        # Some require a key, and all exist.
        assert anyone.simulate_get(path).status_code in (200, 401, 503), path
    assert {"/v1/sessions", "/docs", "/openapi.json", "/health/ready"} <= set(
        index.json["links"].values()
    )
    known = {"Accept": accept, "If-None-Match": index.headers["etag"]}
    again = anyone.simulate_get("/", headers=known)
    assert (again.status_code, again.headers["vary"]) == (304, "Accept")
    head = anyone.simulate_head("/", headers={"Accept": accept})
    assert (head.status_code, head.content) == (200, b"")


def test_the_index_has_no_secret(anyone: Api, runtime: Runtime) -> None:
    settings: Settings = runtime.settings
    for secret in (settings.database_url, settings.key_pepper, settings.blob_url):
        assert secret not in anyone.simulate_get("/").text


def test_filters_in_the_address_are_left_to_the_page(anyone: Api) -> None:
    plain = anyone.simulate_get("/sessions")
    filtered = anyone.simulate_get("/sessions?state=failed&state=partial&utm_source=mail")
    assert (filtered.status_code, filtered.content) == (200, plain.content)
    # The session page has no filters, and the API accepts no unknown parameters.
    assert anyone.simulate_get(f"/sessions/{uuid.uuid4()}?state=failed").status_code == 400


@pytest.mark.parametrize("path", ["/sessions", f"/sessions/{uuid.UUID(int=0)}"])
def test_a_page_lets_nothing_else_in(anyone: Api, path: str) -> None:
    page = anyone.simulate_get(path)
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    # Every file that it names exists; it has no inline script or style.
    named = set(re.findall(r'(?:src|href)="(/page/[^"]*)"', page.text))
    assert len(named) == 4
    assert not re.search(r"<script(?![^>]*src=)|<style|\sstyle=|\son[a-z]+=|https?://", page.text)
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    seen: set[str] = set()
    while named - seen:
        each = (named - seen).pop()
        seen.add(each)
        file = anyone.simulate_get(each)
        assert file.status_code == 200, each
        assert file.headers["x-content-type-options"] == "nosniff"
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write", file.text)
        named |= {f"/page/{name}" for name in re.findall(r'from "\./([^"]+)"', file.text)}
        kept = anyone.simulate_get(each, headers={"If-None-Match": file.headers["etag"]})
        assert (kept.status_code, kept.content) == (304, b"")
    assert {"/page/base.css", "/page/key.js", "/page/api.js"} < seen
    # Links that lead away from it exist, too.
    for link in set(re.findall(r'href="(/[^"#]*)"', page.text)) - seen:
        assert anyone.simulate_get(link).status_code == 200, link


def test_there_is_a_remedy_for_every_kind_of_problem(anyone: Api) -> None:
    remedies = anyone.simulate_get("/page/remedies.json").json
    assert remedies.keys() == {kind.name for kind in errors.kinds()}
    assert "``" not in "".join(remedies.values())


@pytest.mark.parametrize("path", ["/page/nothing.js", "/page/..%2Fapp.py", "/sessions/7"])
def test_nothing_else_is_there(anyone: Api, path: str) -> None:
    assert anyone.simulate_get(path).status_code == 404
