"""Headers of every response, and pages of other origins that may call the API."""

from __future__ import annotations

from dataclasses import replace

import falcon.testing
import pytest

from actors.execution.runtime import Runtime
from tests.support import accounts
from tests.support.api import Api, app_of

pytestmark = pytest.mark.integration

ORIGIN = "https://noise.example.org"


@pytest.mark.parametrize(
    ("path", "status", "cache_control"),
    [
        ("/v1/sessions", 200, "no-store"),
        ("/v1/noise-types", 200, None),
        ("/v1/nothing", 404, "no-store"),
        ("/v1/sessions?limit=x", 400, "no-store"),
        ("/health/live", 200, "no-store"),
        ("/openapi.json", 200, "public, no-cache"),
    ],
)
def test_no_type_is_guessed_and_nothing_is_kept_that_says_nothing(
    api: Api, path: str, status: int, cache_control: str | None
) -> None:
    found = api.simulate_get(path)
    assert found.status_code == status
    assert found.headers["X-Content-Type-Options"] == "nosniff"
    if cache_control is not None:
        assert found.headers["Cache-Control"] == cache_control
    assert found.headers["Server"] == ""


def test_a_caller_without_a_key_gets_them_too(anyone: Api) -> None:
    found = anyone.simulate_get("/v1/sessions")
    assert found.status_code == 401
    assert found.headers["X-Content-Type-Options"] == "nosniff"
    assert found.headers["Cache-Control"] == "no-store"


def preflight(api: Api, origin: str) -> falcon.testing.Result:
    return api.simulate_options(
        "/v1/sessions",
        headers={
            "Origin": origin,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization, idempotency-key",
        },
    )


def test_pages_of_listed_origins_may_call_the_api(runtime: Runtime) -> None:
    settings = replace(runtime.settings, allowed_origins=(ORIGIN,))
    app = app_of(runtime, settings=settings)
    api = accounts.client(app)
    found = api.simulate_get("/v1/sessions", headers={"Origin": ORIGIN})
    assert found.status_code == 200
    assert found.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert "Retry-After" in found.headers["Access-Control-Expose-Headers"]
    assert "Access-Control-Allow-Credentials" not in found.headers
    assert "Origin" in found.headers["Vary"]
    # A browser asks without the key.
    asked = preflight(falcon.testing.TestClient(app), ORIGIN)
    assert asked.status_code == 200
    assert asked.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert "POST" in asked.headers["Access-Control-Allow-Methods"]
    assert asked.headers["Access-Control-Allow-Headers"] == "authorization, idempotency-key"
    # Errors can be read as well.
    refused = falcon.testing.TestClient(app).simulate_get(
        "/v1/sessions", headers={"Origin": ORIGIN}
    )
    assert refused.status_code == 401
    assert refused.headers["Access-Control-Allow-Origin"] == ORIGIN
    for origin in ("https://elsewhere.example.org", "null", f"{ORIGIN}.evil.example"):
        other = preflight(falcon.testing.TestClient(app), origin)
        assert "Access-Control-Allow-Origin" not in other.headers


def test_no_page_may_by_default(api: Api) -> None:
    assert "Access-Control-Allow-Origin" not in preflight(api, ORIGIN).headers
    found = api.simulate_get("/v1/sessions", headers={"Origin": ORIGIN})
    assert "Access-Control-Allow-Origin" not in found.headers
