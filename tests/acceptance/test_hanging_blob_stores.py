"""A blob store that hangs: requests are answered in time, and work waits and resumes with it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import pytest

from db.settings import Settings
from services.processes.server import free_port
from tests.support import accounts, recordings, s3
from tests.support.cluster import Cluster, eventually
from tests.support.hanging_files import HangingFolder

pytestmark = pytest.mark.acceptance

#: The most that a request may take, however many are sent at once.
ANSWER_S = 8.0
#: The same while it is known that the store does not answer.
REFUSAL_S = 2.0
WAV = {"Content-Type": "audio/flac"}


@dataclass
class Hanging:
    """A store that hangs on demand."""

    url: str
    server: s3.PrivateS3 | HangingFolder


@pytest.fixture(params=["bucket", "folder"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Hanging]:
    if request.param == "folder":
        folder = HangingFolder(tmp_path)
        yield Hanging(folder.path.as_uri(), folder)
        folder.thaw()
        return
    with s3.private_s3() as server:
        yield Hanging(f"s3://{s3.BUCKET}", server)


def test_requests_are_answered_and_work_waits_while_a_store_hangs(
    rabbit_settings: Settings, store: Hanging, tmp_path: Path
) -> None:
    recording = recordings.encode(recordings.demo())
    port = free_port()
    settings = replace(rabbit_settings, blob_url=store.url, rate_limit_per_s=0)
    with (
        Cluster(settings, tmp_path) as cluster,
        closing(httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60)) as http,
    ):
        http.headers["Authorization"] = f"Bearer {accounts.KEY}"
        cluster.env |= store.server.environment | {"AWS_TIMEOUT": "5 seconds"}
        cluster.serve(port)
        worker = cluster.worker()

        def post() -> httpx.Response:
            return http.post("/v1/sessions", content=recording, headers=WAV)

        def answered(path: str | None) -> tuple[int, float]:
            began = time.monotonic()
            answer = http.get(path) if path else post()
            return answer.status_code, time.monotonic() - began

        # The worker finds the work only while the store hangs.
        worker.freeze()
        made = post()
        assert made.status_code == 202
        path = made.headers["Location"]
        calls = [None, f"{path}/recording"] * 16
        store.server.freeze()
        try:
            for most_s in (ANSWER_S, ANSWER_S):
                with ThreadPoolExecutor(32) as callers:
                    answers = list(callers.map(answered, calls))
                assert {status for status, _ in answers} == {503}
                assert max(took_s for _, took_s in answers) < most_s
            # What needs no blob is answered as ever.
            assert answered(path)[0] == 200
            ready = http.get("/health/ready")
            assert (ready.status_code, ready.json()["checks"]["blobs"]) == (503, "away")
            # Of many requests one at a time asks the store.
            took = sorted(answered(f"{path}/recording")[1] for _ in range(9))
            assert took[4] < REFUSAL_S

            # The worker gives the work back without an attempt.
            worker.thaw()
            eventually(
                lambda: http.get(path).json()["stage"] == "waiting for storage",
                timeout_s=90,
                what="a session that waits",
            )
        finally:
            store.server.thaw()
        eventually(lambda: answered(None)[0] == 202, timeout_s=30, what="an answer")
        assert answered(f"{path}/recording")[0] == 200
        # After the longest wait of a row, at the latest.
        eventually(
            lambda: http.get(path).json()["state"] == "completed", timeout_s=120, what="an end"
        )
    # The same process as before: its watchdog had no reason to end it.
    assert '"stuck"' not in worker.log.read_text()
    assert worker.log.read_text().count("Worker process is ready") == 1
