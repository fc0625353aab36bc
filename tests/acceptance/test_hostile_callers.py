"""Hostile callers beside others: what they hold must not be missing to anybody else."""

from __future__ import annotations

import http.client
import select
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx
import pytest

from db.settings import Settings
from services.http import connection_guard
from services.processes.server import free_port
from tests.support import accounts, recordings
from tests.support.cluster import Cluster, Process, eventually

pytestmark = pytest.mark.acceptance

N_SILENT, N_UPLOADS, N_READERS = 2_000, 64, 64
#: More than the buffers of a connection hold.
RECORDING = recordings.HEADER + bytes(16 * 1024 * 1024)
#: The uploads that one user may have at once.
SHARE = int(Settings.uploads * Settings.user_share)
#: What the server answers whether or not the caller reads it.
ANSWERED = ("readers", "streams", "documents")
#: The longest that another caller may wait, while the same machine plays the hostile ones.
MOST_S = 0.5


@dataclass(frozen=True)
class Api:
    """A running API, with the addresses of its server and of its probes."""

    port: int
    probe_port: int
    process: Process
    #: A recording of the hostile caller, and a session of another.
    recording: str
    session: str

    def connect(self, sent: bytes = b"", *, buffer_bytes: int | None = None) -> socket.socket:
        wire = socket.socket()
        if buffer_bytes is not None:
            wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
        wire.settimeout(30)
        wire.connect(("127.0.0.1", self.port))
        wire.sendall(sent)
        return wire

    def get_s(self, path: str, *, port: int | None = None) -> float:
        """Return the time of a GET by the other caller, over a connection of its own."""
        began = time.monotonic()
        wire = http.client.HTTPConnection("127.0.0.1", port or self.port, timeout=30)
        with closing(wire):
            wire.request("GET", path, headers=accounts.bearer(accounts.ADMIN_KEY))
            response = wire.getresponse()
            assert response.status == 200, response.read()
            response.read()
        return time.monotonic() - began

    def shows(self, label: str) -> bool:
        """Return whether a metric of the server has a label."""
        return label in httpx.get(f"http://127.0.0.1:{self.probe_port}/metrics").text

    def reads(self, path: str, key: str) -> bool:
        """Return whether a recording can be downloaded; False if its user has no place."""
        url = f"http://127.0.0.1:{self.port}{path}"
        response = httpx.get(url, headers=accounts.bearer(key), timeout=30)
        assert response.status_code in (200, 429), response.text
        return response.content == RECORDING


@pytest.fixture
def api(rabbit_settings: Settings, tmp_path: Path) -> Iterator[Api]:
    with Cluster(rabbit_settings, tmp_path) as cluster:
        port, probe_port = free_port(), free_port()
        cluster.env["CLAMOR_RATE_LIMIT"] = "0"
        cluster.env["CLAMOR_PROBE_ADDRESS"] = f"127.0.0.1:{probe_port}"
        process = cluster.serve(port)

        paths = []
        for key in (accounts.KEY, accounts.ADMIN_KEY):
            made = httpx.post(
                f"http://127.0.0.1:{port}/v1/sessions",
                content=RECORDING,
                headers=accounts.bearer(key),
                timeout=60,
            )
            assert made.status_code == 202, made.text
            paths.append(made.headers["location"])
        yield Api(port, probe_port, process, f"{paths[0]}/recording", paths[1])


def head(method: str, path: str, *fields: str) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: clamor", f"Authorization: Bearer {accounts.KEY}"]
    return "\r\n".join((*lines, *fields, "", "")).encode()


@contextmanager
def hostile(api: Api) -> Iterator[dict[str, list[socket.socket]]]:
    """Hold all connections of the hostile caller, by what they do not do."""
    upload = head("POST", "/v1/sessions", "Content-Length: 1000000") + b"RIFF"
    with ExitStack() as stack:

        def hold(count: int, sent: bytes, buffer_bytes: int | None = None) -> list[socket.socket]:
            return [
                stack.enter_context(api.connect(sent, buffer_bytes=buffer_bytes))
                for _ in range(count)
            ]

        yield {
            "silent": hold(N_SILENT, b""),
            "uploads": hold(N_UPLOADS, upload),
            "readers": hold(N_READERS, head("GET", api.recording), 4_096),
            "streams": hold(64, head("GET", api.recording.replace("recording", "events"))),
            "heads": hold(64, b"GET / HTTP/1.1\r\nHost: clam"),
            "documents": hold(64, b"GET /openapi.json HTTP/1.1\r\nHost: clamor\r\n\r\n", 4_096),
        }


def answered(wires: list[socket.socket]) -> list[socket.socket]:
    """Return the connections on which an answer has begun."""
    poll = select.poll()
    for wire in wires:
        poll.register(wire, select.POLLIN)
    begun = {descriptor for descriptor, _ in poll.poll(0)}
    return [wire for wire in wires if wire.fileno() in begun]


def n_ended(wires: list[socket.socket]) -> int:
    """Return how many connections the server has closed."""
    poll = select.poll()
    for wire in wires:
        poll.register(wire, select.POLLRDHUP)
    return len(poll.poll(0))


def test_no_other_caller_and_no_probe_waits(api: Api) -> None:
    began = time.monotonic()
    with hostile(api) as held:
        assert time.monotonic() - began < connection_guard.FIRST_BYTE_S, "the machine is too slow"
        eventually(
            lambda: (
                all(len(answered(held[each])) == len(held[each]) for each in ANSWERED)
                and len(answered(held["uploads"])) == N_UPLOADS - SHARE
            ),
            what="an answer to, or a place for, each hostile request",
        )
        taken = []
        for _ in range(20):
            taken.append(api.get_s(api.session))
            for port in (api.port, api.probe_port):
                for path in ("/health/live", "/health/ready", "/metrics"):
                    assert api.get_s(path, port=port) < 3
            time.sleep(0.1)
        assert max(taken) < MOST_S, taken
        # Its uploads and downloads have places, too.
        began_s = time.monotonic()
        other = accounts.bearer(accounts.ADMIN_KEY)
        url = f"http://127.0.0.1:{api.port}"
        posted = httpx.post(
            f"{url}/v1/sessions", content=RECORDING[:100_000], headers=other, timeout=30
        )
        assert posted.status_code == 202, posted.text
        assert api.reads(f"{api.session}/recording", accounts.ADMIN_KEY)
        assert time.monotonic() - began_s < 5
        eventually(lambda: n_ended(held["silent"]) == N_SILENT, what="an end to silence")
        # Once the deaf readers are ended, their user's places are free.
        eventually(lambda: api.reads(api.recording, accounts.KEY), what="an end to deaf readers")
        # Their answers may lie in the buffers of the kernel, and their places be free before.
        for reason in ("first_byte", "slow_answer"):
            shown = f'reason="{reason}"'
            eventually(partial(api.shows, shown), what=f"a connection that ended with {shown}")
        print(f"GET beside hostile callers: {sorted(taken)[10]:.3f} s, at most {max(taken):.3f} s")


def test_beyond_its_share_a_user_is_told_so(api: Api) -> None:
    upload = head("POST", "/v1/sessions", "Content-Length: 1000000") + b"RIFF"
    with ExitStack() as stack:
        wires = [stack.enter_context(api.connect(upload)) for _ in range(N_UPLOADS)]
        eventually(lambda: len(answered(wires)) == N_UPLOADS - SHARE, what="refusals")
        text = answered(wires)[0].recv(10_000)
        assert text.startswith(b"HTTP/1.1 429 ")
        assert b"/problems/too-many-at-once" in text
        assert b"%d uploads" % SHARE in text
