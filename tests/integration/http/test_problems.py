"""Every error has one shape and a stable type, and can be found in the log."""

from __future__ import annotations

import inspect
import json
import uuid
from typing import Any

import falcon
import falcon.testing
import pytest
import structlog
from sqlalchemy.exc import OperationalError

from services.api.sessions.errors import ClipNotReady
from services.http import errors, problems
from services.http.caller_errors import RequestUnderWay
from services.http.errors import ServiceError
from services.http.server_errors import InternalError, StoreUnavailable
from tests.support import accounts
from tests.support.api import Api, App

pytestmark = pytest.mark.integration

NOWHERE = f"/v1/sessions/{uuid.UUID(int=7)}"
JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": "multipart/form-data; boundary=x"}


def told(result: Any) -> tuple[int, str]:
    """Check that a problem is complete; return its status and type."""
    assert result.headers["content-type"] == "application/problem+json"
    problem = result.json
    assert problem["status"] == result.status_code
    assert problem["request_id"] == result.headers["x-request-id"]
    assert problem["title"]
    assert ("retry-after" in result.headers) == (result.status_code in (429, 503))
    return problem["status"], problem["type"].removeprefix("/problems/")


CASES: dict[str, tuple[tuple[str, str, dict[str, Any]], tuple[int, str]]] = {
    "route": (("GET", "/nothing", {}), (404, "unknown-route")),
    "no id": (("GET", "/v1/sessions/7", {}), (404, "unknown-route")),
    "nul in a path": (("GET", "/v1/keys/%00", {}), (404, "unknown-route")),
    "row": (("GET", NOWHERE, {}), (404, "session-not-found")),
    "method": (("PUT", "/v1/users", {}), (405, "method-not-allowed")),
    "unknown method": (("BREW", "/v1/users", {}), (400, "bad-request")),
    "before routing": (("WEBSOCKET", "/v1/users", {}), (400, "bad-request")),
    "no query taken": (("GET", NOWHERE, {"query_string": "x=1"}), (400, "invalid-parameter")),
    "nul in a query": (
        ("GET", f"{NOWHERE}/detections", {"query_string": "cursor=%00"}),
        (400, "invalid-parameter"),
    ),
    "no boundary": (
        ("POST", "/v1/sessions", {"headers": {"Content-Type": "multipart/form-data"}, "body": "x"}),
        (400, "invalid-header"),
    ),
    "broken form": (
        ("POST", "/v1/models", {"headers": FORM, "body": "--x\r\nnonsense"}),
        (400, "invalid-form"),
    ),
    "no json": (("POST", "/v1/users", {"headers": JSON, "body": "{"}), (400, "invalid-body")),
    "deep json": (
        ("POST", "/v1/users", {"headers": JSON, "body": '{"name":' + "[" * 60_000}),
        (400, "invalid-body"),
    ),
    "nul in json": (
        ("POST", "/v1/users", {"headers": JSON, "body": r'{"name": "\u0000", "email": "a@b"}'}),
        (400, "invalid-body"),
    ),
    "large json": (
        ("POST", "/v1/users", {"headers": JSON, "body": " " * 70_000}),
        (413, "body-too-large"),
    ),
    "no json at all": (
        ("POST", "/v1/users", {"headers": {"Content-Type": "text/plain"}, "body": "x"}),
        (415, "unsupported-media-type"),
    ),
}


@pytest.mark.filterwarnings("ignore:Unknown REQUEST_METHOD")
@pytest.mark.parametrize("accept", ["*/*", "text/xml, application/xml;q=0.9", "image/png"])
def test_every_error_is_problem_json_of_a_known_type(admin: Api, accept: str) -> None:
    names = {kind.name for kind in errors.kinds()}
    for case, ((method, path, more), expected) in CASES.items():
        headers = {"Accept": accept} | more.get("headers", {})
        got = admin.simulate_request(method, path, **(more | {"headers": headers}))
        assert told(got) == expected, case
        assert expected[1] in names
    allow = admin.simulate_put("/v1/users").headers["allow"]
    assert {"GET", "POST"} <= {method.strip() for method in allow.split(",")}


def test_a_caller_is_told_which_key_is_needed(app: App) -> None:
    stranger = falcon.testing.TestClient(app)
    refused = stranger.simulate_get(NOWHERE, query_string="x=1")
    assert told(refused) == (401, "unauthenticated")
    assert refused.headers["www-authenticate"].startswith("Bearer")
    refused = accounts.client(app).simulate_get("/v1/users")
    assert told(refused) == (403, "missing-scope")
    assert 'error="insufficient_scope"' in refused.headers["www-authenticate"]


def test_each_bad_field_is_named(admin: Api) -> None:
    def named(result: Any) -> list[str]:
        told(result)
        assert all(each["detail"] for each in result.json["errors"])
        return [each["field"] for each in result.json["errors"]]

    assert named(admin.simulate_get("/v1/users", query_string="a=1&b=2")) == ["a", "b"]
    bad = admin.simulate_get(f"{NOWHERE}/detections", query_string="limit=no&x=1&cursor=a&cursor=b")
    assert named(bad) == ["x", "limit", "cursor"]
    keys = f"/v1/users/{accounts.TEAM}/keys"
    scopes = json.dumps({"name": "a", "scopes": ["sessions:read", "everything"]})
    assert named(admin.simulate_post(keys, headers=JSON, body=scopes)) == ["scopes[1]"]
    prefix = admin.simulate_post("/v1/batches", headers=JSON, body='{"prefix": "elsewhere/"}')
    assert named(prefix) == ["prefix"]

    def form(**fields: str) -> list[str]:
        body = "".join(
            f'--x\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{text}\r\n'
            for name, text in fields.items()
        )
        return named(admin.simulate_post("/v1/models", headers=FORM, body=body + "--x--\r\n"))

    assert form(other="x") == ["other"]
    assert form(options="{}") == ["manifest"]
    assert form(manifest="file,label\na.wav,\nb.wav,x\nc.wav,") == ["manifest[2]", "manifest[4]"]
    assert form(manifest="file,label\na\0.wav,x") == ["manifest"]
    assert form(manifest="file,label\na.wav,x", options='{"seed": "x"}') == ["seed"]


def test_what_nobody_foresaw_is_told_to_the_log_alone(
    admin: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_args: object, **_more: object) -> None:
        raise RuntimeError("the secret is 42")

    monkeypatch.setattr("db.queries.account_queries.users", fail)
    merged = [structlog.contextvars.merge_contextvars]
    with structlog.testing.capture_logs(processors=merged) as logged:
        got = admin.simulate_get("/v1/users", headers={"X-Request-ID": "find-me"})
    assert told(got) == (500, InternalError.name)
    assert "42" not in got.text
    [line] = [line for line in logged if line["event"] == "request_failed"]
    assert line["request_id"] == "find-me" == got.headers["x-request-id"]
    assert "42" in str(line["exc_info"])


def test_a_database_that_is_away_is_a_reason_to_try_again(
    admin: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_args: object, **_more: object) -> None:
        raise OperationalError("SELECT", {}, Exception("at 10.0.0.1"))

    monkeypatch.setattr("db.queries.account_queries.users", fail)
    got = admin.simulate_get("/v1/users")
    assert told(got) == (503, StoreUnavailable.name)
    assert "10.0.0.1" not in got.text


def test_an_id_that_is_no_sane_one_is_replaced(admin: Api) -> None:
    for bad in ("a b", "x" * 65, "<script>"):
        got = admin.simulate_get("/nothing", headers={"X-Request-ID": bad})
        assert uuid.UUID(hex=got.headers["x-request-id"])
        told(got)


def test_every_kind_can_be_explained() -> None:
    kinds = errors.kinds()
    assert len(kinds) == len({kind.name for kind in kinds}) > 30
    for kind in kinds:
        doc = inspect.getdoc(kind) or ""
        assert "name" in vars(kind), kind
        assert len(doc) > 30, kind
        assert doc != inspect.getdoc(ServiceError), kind
        assert kind.advice, kind
        assert 400 <= kind.status < 600, kind
        assert (kind.retry_after_s is not None) == (
            kind.status in (429, 503) or kind in (RequestUnderWay, ClipNotReady)
        ), kind


def test_an_error_of_the_framework_that_is_not_known_has_a_name_too() -> None:
    refused = problems.of_framework(falcon.HTTPError(418, title="Short and stout"))
    assert (refused.status, refused.name) == (400, "bad-request")
    failed = problems.of_framework(falcon.HTTPBadGateway(title="Not ours"))
    assert (failed.status, failed.name) == (500, "internal-error")
