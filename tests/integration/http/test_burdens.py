"""The cost to a real server process of requests that are small to send but expensive to handle."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from db.settings import Settings
from services.processes.server import free_port
from tests.support import accounts
from tests.support.cluster import Cluster, Process

pytestmark = pytest.mark.integration

#: The size of a body that made a process hold 350 MB for each of these requests.
KEYS_BYTES = 14 * 1024 * 1024
AT_ONCE = 8
MOST_ITEMS = 10_000
FORM = "multipart/form-data; boundary=x"


@dataclass
class Server:
    """A server process, and its resource use so far."""

    port: int
    process: Process

    def post(self, body: bytes, content_type: str) -> tuple[int, Any]:
        """Post a batch; return the status and the answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=300)
        headers = {"Content-Type": content_type, **accounts.bearer()}
        connection.request("POST", "/v1/batches", body=body, headers=headers)
        answer = connection.getresponse()
        told = json.loads(answer.read())
        connection.close()
        return answer.status, told

    def cpu_s(self) -> float:
        """Return the processor time of the process and its children, in seconds.

        Without the kernel's, most of which is the file system's and depends on what else it does.
        """
        process = psutil.Process(self.process.popen.pid)
        times = [each.cpu_times() for each in (process, *process.children(recursive=True))]
        return sum(each.user for each in times)

    @contextmanager
    def peak(self) -> Iterator[list[int]]:
        """Yield a list of one number: the rise of its memory above the previous peak, in bytes."""
        before, found = self.process.peak_memory_bytes(), [0]
        yield found
        found[0] = self.process.peak_memory_bytes() - before


@pytest.fixture
def server(rabbit_settings: Settings, tmp_path: Path) -> Iterator[Server]:
    with Cluster(rabbit_settings, tmp_path) as cluster:
        cluster.env["CLAMOR_RATE_LIMIT"] = "0"
        port = free_port()
        yield Server(port, cluster.serve(port))


def keys(key: bytes) -> bytes:
    """Return a JSON list of one key, as long as fits."""
    listed = b",".join([b'"' + key + b'"'] * (KEYS_BYTES // (len(key) + 3)))
    return b'{"keys":[' + listed + b"]}"


def part(parameters: str) -> bytes:
    return f"--x\r\nContent-Disposition: form-data; {parameters}\r\n\r\n\r\n".encode()


def test_lists_of_keys_cost_no_more_memory_than_their_bytes(server: Server) -> None:
    for n_bytes in (KEYS_BYTES, MOST_ITEMS * 1_000):
        body = keys(b"a")[: n_bytes - 3] + b'"]}'
        with server.peak() as peak, ThreadPoolExecutor(AT_ONCE) as pool:
            answers = list(
                pool.map(lambda _, body=body: server.post(body, "application/json"), range(AT_ONCE))
            )
        for status, problem in answers:
            assert (status, problem["type"]) == (413, "/problems/too-many-files")
        # The bytes may be copied on the way; a text object for each key took 50 bytes more.
        assert peak[0] < AT_ONCE * 3 * n_bytes
    longest = [f"inbox/{number:08d}".ljust(1_024, "x") for number in range(MOST_ITEMS)]
    status, batch = server.post(json.dumps({"keys": longest}).encode(), "application/json")
    assert (status, batch.get("files")) == (202, {"waiting": MOST_ITEMS}), batch


def test_a_form_of_empty_parts_takes_seconds_and_not_minutes(server: Server) -> None:
    before_s = server.cpu_s()
    status, batch = server.post(
        part('name="file"; filename="a.wav"') * MOST_ITEMS + b"--x--\r\n", FORM
    )
    assert (status, batch["files"]) == (202, {"refused": MOST_ITEMS})
    # It was 21 s with a transaction for each part, and is below 2 s.
    assert server.cpu_s() - before_s < 8


def test_forms_with_too_many_or_too_large_parts_are_refused(server: Server) -> None:
    for parts, told in (
        (part('name="other"') * (MOST_ITEMS + 100), "number of form body parts"),
        (part('name="file"; a="' + ";" * 7_000), "headers"),
        (part('name="file"; a="' + ";" * 1_900), "parameters"),
    ):
        status, problem = server.post(parts + b"--x--\r\n", FORM)
        assert (status, problem["type"]) == (400, "/problems/invalid-form")
        assert told in problem["detail"]
    status, problem = server.post(b"--x--\r\n", f'{FORM}; a="{";" * 20_000}')
    assert (status, problem["type"]) == (400, "/problems/invalid-header")
