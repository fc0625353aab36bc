"""Exchanges: which answers end their connection."""

from __future__ import annotations

import falcon
import falcon.testing
import pytest

from services.http.exchange import App

SENT = b"x" * 1_000


class Reading:
    """Reads so many bytes of the body."""

    def on_post(self, req: falcon.Request, _resp: falcon.Response) -> None:
        req.bounded_stream.read(int(req.get_param_as_int("n_bytes", required=True)))


@pytest.fixture
def api() -> falcon.testing.TestClient:
    app = App(middleware=[], listeners=[], ends_unread=True)
    app.add_route("/", Reading())
    return falcon.testing.TestClient(app)


@pytest.mark.parametrize(
    ("n_bytes", "expected"), [(0, "close"), (len(SENT) - 1, "close"), (len(SENT), None)]
)
def test_a_connection_ends_whose_body_was_not_read(
    api: falcon.testing.TestClient, n_bytes: int, expected: str | None
) -> None:
    """Else a client sends its next request over a connection that the server is closing."""
    answer = api.simulate_post("/", body=SENT, params={"n_bytes": n_bytes})
    assert answer.status_code == 200
    assert answer.headers.get("connection") == expected


def test_a_connection_stays_after_a_request_without_a_body(api: falcon.testing.TestClient) -> None:
    assert "connection" not in api.simulate_get("/").headers
