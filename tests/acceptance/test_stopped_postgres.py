"""A Postgres that stands still: requests are answered in time, and everything resumes with it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from db import migrate
from db.settings import Settings
from services.processes.server import free_port
from tests.support import accounts, servers, sounds
from tests.support.cluster import Cluster, eventually

pytestmark = pytest.mark.acceptance

#: The most that a request may take, however many are sent at once.
ANSWER_S = 8.0
WAV = {"Content-Type": "audio/wav"}


@pytest.fixture(scope="module")
def postgres() -> Iterator[servers.PrivatePostgres]:
    try:
        with servers.private_postgres() as server:
            migrate.upgrade(server.url)
            accounts.add_first(server.url)
            yield server
    except servers.ServerUnavailable as reason:
        servers.unavailable(reason)


def test_requests_are_answered_while_postgres_stands_still(
    postgres: servers.PrivatePostgres, tmp_path: Path
) -> None:
    settings = Settings(
        database_url=postgres.url,
        amqp_url="memory://",
        blob_url=(tmp_path / "blobs").as_uri(),
        key_pepper=accounts.PEPPER,
        backbone_url="off",
        rate_limit_per_s=0,
    )
    recording = sounds.encoded(sounds.noise(16_000), rate_hz=16_000, kind="WAV")
    port = free_port()
    with (
        Cluster(settings, tmp_path) as cluster,
        closing(httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60)) as http,
    ):
        http.headers["Authorization"] = f"Bearer {accounts.KEY}"
        cluster.serve(port)

        def answered(post: bool) -> tuple[int, float]:
            began = time.monotonic()
            if post:
                answer = http.post("/v1/sessions", content=recording, headers=WAV)
            else:
                answer = http.get("/v1/sessions")
            return answer.status_code, time.monotonic() - began

        assert http.get("/v1/sessions").headers["Server"] == ""
        assert answered(True)[0] == 202
        postgres.freeze()
        try:
            for _ in range(2):
                with ThreadPoolExecutor(32) as callers:
                    answers = list(callers.map(answered, [False, True] * 16))
                assert {status for status, _ in answers} == {503}
                assert max(took_s for _, took_s in answers) < ANSWER_S
                ready = http.get("/health/ready")
                assert (ready.status_code, ready.json()["checks"]["database"]) == (503, "away")
        finally:
            postgres.thaw()
        eventually(lambda: answered(True)[0] == 202, timeout_s=20, what="an answer")
        assert answered(False)[0] == 200
