"""Compare requests per second with an equivalent on FastAPI and uvicorn: `make bench-api`.

One process of each uses the same Postgres, RabbitMQ and folder of blobs; eight connections send a
request as soon as the last one is answered. The two take turns, so that other load affects both
equally. The result is the ratio per round, and the median of the rounds.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from rich.console import Console
from rich.table import Table

from db import migrate
from db.queries import session_queries, span_queries
from db.settings import Settings
from db.store import Store
from services.processes.server import free_port
from tests.benchmarks.fairness import remove_queues
from tests.support import accounts, recordings, servers
from tests.support.cluster import Cluster, eventually
from tests.support.pipeline import put_into

CONNECTIONS = 8
ROUND_S = 4.0
WARM_UP_S = 2.0
UPLOAD_BYTES = 100_000


@dataclass(frozen=True)
class Server:
    """One of the two servers."""

    name: str
    port: int


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench-api", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="rounds of each (%(default)s)")
    options = parser.parse_args()
    said = Console(stderr=True)
    table = Table(title=f"requests per second, {CONNECTIONS} connections, median of the rounds")
    for heading in ("request", "Clamor", "FastAPI twin", "ratio", "ratios of the rounds"):
        table.add_column(heading, justify="left" if heading == "request" else "right")
    with pair() as (ours, twin, requests):
        for name, request in requests.items():
            rates: dict[Server, list[float]] = {ours: [], twin: []}
            for server in rates:
                rate(server, request, seconds=WARM_UP_S)
            for number in range(options.rounds):
                said.print(f"{name}: round {number + 1} of {options.rounds}")
                for server, measured in rates.items():
                    measured.append(rate(server, request, seconds=ROUND_S))
            ratios = sorted(a / b for a, b in zip(rates[ours], rates[twin], strict=True))
            table.add_row(
                name,
                *(f"{statistics.median(measured):,.0f}" for measured in rates.values()),
                f"{statistics.median(ratios):.2f}",
                f"{ratios[0]:.2f} to {ratios[-1]:.2f}",
            )
    Console().print(table)
    return 0


@contextmanager
def pair() -> Iterator[tuple[Server, Server, dict[str, bytes]]]:
    """Start both servers over the same stores; yield them and the requests to send."""
    with ExitStack() as stack:
        postgres, rabbitmq = (
            stack.enter_context(server()) for server in (servers.postgres, servers.rabbitmq)
        )
        database_url = stack.enter_context(servers.database(postgres))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="clamor-bench-")))
        migrate.upgrade(database_url)
        accounts.add_first(database_url)
        settings = Settings(
            database_url=database_url,
            amqp_url=rabbitmq,
            blob_url=(folder / "blobs").as_uri(),
            queue_prefix=f"bench-{uuid.uuid4().hex[:12]}",
            key_pepper=accounts.PEPPER,
            secret_keys=accounts.SECRET_KEYS,
            # Requests are counted as usual, but never reach this limit.
            rate_limit_per_s=1e6,
        )
        stack.callback(remove_queues, settings)
        cluster = stack.enter_context(Cluster(settings, folder))
        ours = Server("Clamor", free_port())
        cluster.serve(ours.port)
        twin = Server("FastAPI twin", free_port())
        stack.enter_context(_twin(twin, cluster.env, folder))
        requests = {
            "GET /v1/sessions/{id}": get_request(add_session(database_url)),
            "POST /v1/sessions, 100 kB": post_request(),
        }
        for server in (ours, twin):
            for request in requests.values():
                answers_rightly(server, request)
        yield ours, twin, requests


@contextmanager
def _twin(twin: Server, env: dict[str, str], folder: Path) -> Iterator[None]:
    log = folder / "twin.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "uvicorn",
                "tests.benchmarks.twin:app",
                "--port",
                str(twin.port),
                "--no-access-log",
                "--log-level",
                "warning",
            ],
            env={**os.environ, **env},
            stdout=file,
            stderr=file,
        )

    def ready() -> bool:
        assert process.poll() is None, log.read_text()
        try:
            return httpx.get(f"http://127.0.0.1:{twin.port}/docs").is_success
        except httpx.TransportError:
            return False

    try:
        eventually(ready, what="the twin")
        yield
    finally:
        process.terminate()
        process.wait(timeout=30)


def add_session(database_url: str) -> uuid.UUID:
    """Add a completed session, the kind that callers request most; return its ID."""
    session_id = uuid.uuid4()
    store = Store(database_url)
    levels = ["laeq", "lceq", "lzeq", "lae", "lafmax", "lasmax", "lafmin", "lcpeak"]
    levels += ["l5", "l10", "l50", "l90", "l95"]
    heard = {"rain": {"events": 3, "total_s": 12.5, "max_confidence": 0.93}}
    model = {"name": "base", "version": "2.1.0"}
    with store.transaction() as tx:
        session_queries.add_session(
            tx,
            id=session_id,
            user_id=accounts.TEAM,
            file_name="street.flac",
            size_bytes=100_000,
            recording_key="nowhere",
        )
        put_into(tx, session_id, "completed", duration_s=60.0)
        row = session_queries.get_session(tx, session_id)
        assert row is not None
        row.started_at, row.rate_hz, row.n_channels = row.created_at, 44_100, 2
        row.spans_total = row.spans_finished = 1
        row.summary = {
            "events": 3,
            "noise_types": heard,
            "level_reference": "dBFS",
            "model": model,
            **{f"{name}_db": -40.0 for name in levels},
        }
        tx.add(row)
        tx.add_all(span_queries.new_spans(session_id, [(0, 0, 960_000)]))
    store.close()
    return session_id


def get_request(session_id: uuid.UUID) -> bytes:
    """Return the bytes of a request for a session."""
    return (
        f"GET /v1/sessions/{session_id} HTTP/1.1\r\nHost: localhost\r\n"
        f"Authorization: Bearer {accounts.KEY}\r\nAccept: */*\r\n\r\n"
    ).encode()


def post_request() -> bytes:
    """Return the bytes of an upload, as a form."""
    clip = recordings.encode(recordings.demo(), container="WAV")[:UPLOAD_BYTES]
    body = (
        b'--between\r\nContent-Disposition: form-data; name="file"; filename="clip.wav"\r\n'
        b"Content-Type: audio/wav\r\n\r\n" + clip + b"\r\n--between--\r\n"
    )
    head = (
        "POST /v1/sessions HTTP/1.1\r\nHost: localhost\r\n"
        f"Authorization: Bearer {accounts.KEY}\r\nAccept: */*\r\n"
        "Content-Type: multipart/form-data; boundary=between\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def answers_rightly(server: Server, request: bytes) -> None:
    """Check that the server accepts the request, so that no refusals are measured."""
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        status = ask(connection, request)
    assert status in (200, 202), f"{server.name} answered {status}"


def rate(server: Server, request: bytes, *, seconds: float) -> float:
    """Measure requests per second, sent from a separate process."""
    receiving, sending = multiprocessing.get_context("spawn").Pipe(duplex=False)
    asking = multiprocessing.get_context("spawn").Process(
        target=_ask_for, args=(server.port, request, seconds, sending)
    )
    asking.start()
    found: float = receiving.recv()
    asking.join()
    return found


def _ask_for(port: int, request: bytes, seconds: float, sending: object) -> None:
    counts = [0] * CONNECTIONS
    ends_at = time.perf_counter() + seconds

    def one(index: int) -> None:
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while time.perf_counter() < ends_at:
                assert ask(connection, request) in (200, 202)
                counts[index] += 1

    threads = [threading.Thread(target=one, args=(index,)) for index in range(CONNECTIONS)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sending.send(sum(counts) / (time.perf_counter() - began))  # type: ignore[attr-defined]


def ask(connection: socket.socket, request: bytes) -> int:
    """Send a request, read the whole response, and return its status."""
    connection.sendall(request)
    data = b""
    while b"\r\n\r\n" not in data:
        data += _some(connection)
    head, _, body = data.partition(b"\r\n\r\n")
    lines: Sequence[bytes] = head.lower().split(b"\r\n")
    [length] = (int(line[15:]) for line in lines if line.startswith(b"content-length:"))
    n_missing = length - len(body)
    while n_missing > 0:
        n_missing -= len(_some(connection))
    return int(lines[0].split()[1])


def _some(connection: socket.socket) -> bytes:
    data = connection.recv(64 * 1024)
    assert data, "the server hung up"
    return data


if __name__ == "__main__":
    sys.exit(main())
