"""The client repeats unanswered requests, and no others."""

from __future__ import annotations

import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from services.client import ApiError, Client, connection, polling

Handler = Callable[[httpx.Request], httpx.Response]


class Server:
    """Answers one request after the other, and records them."""

    def __init__(self, *answers: Exception | httpx.Response) -> None:
        self._answers = list(answers)
        self.seen: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        request.read()
        self.seen.append(request)
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def client_of(server: Server, monkeypatch: pytest.MonkeyPatch) -> Client:
    monkeypatch.setattr(connection, "AGAIN_S", 0.0)
    return Client("http://nowhere", transport=httpx.MockTransport(server))


def problem(status: int, **headers: str) -> httpx.Response:
    return httpx.Response(status, json={"title": "no"}, headers=headers)


RECORD = {
    "model_id": str(uuid.UUID(int=1)),
    "promoted_at": "2026-01-01T00:00:00Z",
    "forced": False,
    "comparison": {},
}


def test_a_post_whose_answer_is_lost_is_sent_again_with_its_key(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "a.wav"
    file.write_bytes(bytes(range(256)) * 3_000)
    told: list[int] = []
    server = Server(
        httpx.ReadError("gone"),
        httpx.ConnectError("restarting"),
        problem(409, **{"Retry-After": "1"}),
        problem(415),
    )
    client = client_of(server, monkeypatch)
    with pytest.raises(ApiError, match="no"):
        client.upload(file, on_bytes=told.append)
    assert len(server.seen) == 4
    assert len({request.headers["idempotency-key"] for request in server.seen}) == 1
    assert {request.content for request in server.seen} == {file.read_bytes()}
    assert sum(told) == file.stat().st_size
    # Forms, too.
    clip = tmp_path / "clip"
    clip.write_bytes(b"x" * 1_000_000)
    told.clear()
    server = Server(httpx.ReadError("gone"), problem(415))
    with pytest.raises(ApiError):
        client_of(server, monkeypatch).train(
            b"file,label\n", {"clip": clip}, options={}, on_bytes=told.append
        )
    assert [clip.read_bytes() in request.content for request in server.seen] == [True, True]
    assert sum(told) == clip.stat().st_size


def test_importing_the_client_loads_no_server_and_no_http_library() -> None:
    program = "import sys, services.client; print(*sys.modules)"
    ran = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    loaded = {name.partition(".")[0] for name in ran.stdout.split()}
    assert "services" in loaded
    assert loaded.isdisjoint({"db", "falcon", "httpx", "sqlalchemy"})


def test_each_post_has_a_key_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(httpx.Response(200, json=RECORD), httpx.Response(200, json=RECORD))
    client = client_of(server, monkeypatch)
    client.promote(1)
    client.promote(1)
    assert len({request.headers["idempotency-key"] for request in server.seen}) == 2


@pytest.mark.parametrize(
    "answer",
    [httpx.ConnectError("nobody there"), problem(409, **{"Retry-After": "1"}), problem(503)],
)
def test_what_was_answered_or_never_sent_is_not_sent_again(
    monkeypatch: pytest.MonkeyPatch, answer: Exception | httpx.Response
) -> None:
    server = Server(answer)
    with pytest.raises(ApiError):
        client_of(server, monkeypatch).promote(1)
    assert len(server.seen) == 1


def test_a_clip_is_polled_until_it_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(polling, "POLL_MAX_S", 0.0)
    early = httpx.Response(409, json={"title": "no", "type": "/problems/clip-not-ready"})
    server = Server(early, early, httpx.Response(200, content=b"fLaC"))
    assert client_of(server, monkeypatch).clip(uuid.UUID(int=7)) == b"fLaC"
    assert {request.url.path for request in server.seen} == {
        f"/v1/detections/{uuid.UUID(int=7)}/clip.flac"
    }
    gone = Server(httpx.Response(404, json={"title": "no", "type": "/problems/no-clip"}))
    with pytest.raises(ApiError) as refused:
        client_of(gone, monkeypatch).clip(uuid.UUID(int=7))
    assert refused.value.problem == "no-clip"


def test_filters_of_detections_are_sent_and_kept_from_page_to_page(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = Server(
        *(
            httpx.Response(200, json={"items": [], "next_cursor": cursor})
            for cursor in ("next", None)
        )
    )
    asked = {"noise_type": ["rain", "siren"], "heard_from": "2026-03-01T00:00:00Z"}
    assert client_of(server, monkeypatch).all_detections(asked) == []
    for request in server.seen:
        assert request.url.params.get_list("noise_type") == ["rain", "siren"]
        assert request.url.params["heard_from"] == "2026-03-01T00:00:00Z"
    assert [request.url.params.get("cursor") for request in server.seen] == [None, "next"]
    summed: dict[str, object] = {"by": "day", "time_zone": "UTC", "items": []}
    summed |= {"heard_from": "2026-03-01T00:00:00Z", "heard_to": "2026-03-02T00:00:00Z"}
    server = Server(httpx.Response(200, json=summed))
    found = client_of(server, monkeypatch).sum_detections({"by": "day"})
    assert (found.by, found.items) == ("day", [])
    assert dict(server.seen[0].url.params) == {"by": "day"}
