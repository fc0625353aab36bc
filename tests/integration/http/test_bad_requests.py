"""2,000 bad requests to a real server: no server errors, and no internal details in answers."""

from __future__ import annotations

import json
import os
import re
import time
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from db.settings import Settings
from services.processes.server import free_port
from tests.support import accounts, recordings
from tests.support.cluster import Cluster
from tests.support.malformed_requests import MalformedRequests, routes_of
from tests.support.raw_http import Answer, Request, send

pytestmark = pytest.mark.integration

N_REQUESTS = int(os.environ.get("CLAMOR_TEST_BAD_REQUESTS", "2000"))
SEED = int(os.environ.get("CLAMOR_TEST_BAD_SEED", "6"))
#: Words of stack traces, database errors and server paths.
INSIDES = re.compile(rb"Traceback|File \"|psycopg|sqlalchemy|site-packages|\.py\b|SELECT |INSERT ")


def complaints(made: Request, answer: Answer) -> str:
    """Return what is wrong with an answer, or an empty string."""
    if answer.status == 0:
        return "" if made.is_cut else "no answer"
    if answer.status >= 500:
        return f"status {answer.status}"
    if INSIDES.search(answer.body) and answer.status >= 400:
        return "it tells of the insides"
    # The HTTP server itself sends an empty answer to input that is not HTTP.
    is_ours = "x-request-id" in answer.headers
    if answer.status < 400 or not is_ours or made.method == "HEAD":
        return ""
    if answer.headers.get("content-type") != "application/problem+json":
        return f"content type {answer.headers.get('content-type')}"
    problem = json.loads(answer.body)
    if problem["status"] != answer.status or not problem["type"].startswith("/problems/"):
        return f"problem {problem}"
    return "" if problem["request_id"] == answer.headers["x-request-id"] else "another request id"


def test_2000_bad_requests(rabbit_settings: Settings, tmp_path: Path) -> None:
    with Cluster(rabbit_settings, tmp_path) as cluster:
        cluster.env["CLAMOR_RATE_LIMIT"] = "0"
        port = free_port()
        server = cluster.serve(port)
        good = Request(
            "POST",
            "/v1/sessions",
            body=recordings.HEADER + bytes(1_000),
            headers=[
                ("Host", b"x"),
                ("Authorization", f"Bearer {accounts.KEY}".encode()),
                ("Content-Type", b"audio/wav"),
            ],
        )
        session = json.loads(send(port, good).body)
        described = json.loads(
            send(port, Request("GET", "/openapi.json", headers=[("Host", b"x")])).body
        )
        routes = routes_of(described)
        assert len(routes) > 30
        hostile = MalformedRequests(
            SEED, routes=routes, key=accounts.ADMIN_KEY, ids=[session["id"], str(uuid.UUID(int=7))]
        )
        requests = [hostile.request() for _ in range(N_REQUESTS)]
        began = time.monotonic()
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda made: send(port, made), requests))
        took_s = time.monotonic() - began
        bad = [
            (told, made.wire()[:600], answer.body[:600])
            for made, answer in zip(requests, answers, strict=True)
            if (told := complaints(made, answer))
        ]
        print(f"{took_s:.1f} s", Counter(answer.status for answer in answers))
        assert bad == []
        assert server.popen.poll() is None
        assert send(port, good).status == 202
        log = server.log.read_text()
    for word in ("Traceback", "request_failed", "panicked", '"level":"error"', "listener_failed"):
        assert word not in log, log[log.index(word) - 500 : log.index(word) + 3_000]
    # Bad in many ways, yet parseable: otherwise the requests would not get far.
    seen = Counter(answer.status for answer in answers)
    assert {200, 400, 401, 404, 405, 413, 415} <= set(seen), seen
