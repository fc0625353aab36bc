"""Answers probes and metrics at a separate address, by separate threads.

The HTTP server answers them, too; but a flood of requests, or a process out of connections, delays
those answers, and a probe that is late has the process restarted or taken out of service.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterable
from http import HTTPStatus
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from actors.observability.readiness import Readiness
from db.settings import SettingsError

#: Requests at once; further connections are closed. Probes take three seconds at most.
THREADS = 8
#: Seconds that a connection may take to send its request, and to read the answer.
PATIENCE_S = 3.0

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class _Handler(WSGIRequestHandler):
    timeout = PATIENCE_S

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: probes are in no log."""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def __init__(self, host: str, port: int) -> None:
        self._free = threading.Semaphore(THREADS)
        if ":" in host:
            self.address_family = socket.AF_INET6
        super().__init__((host, port), _Handler)

    def server_bind(self) -> None:
        """Bind the address, which the processes of one command share."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        super().server_bind()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread; close the connection if all are busy."""
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer one request."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore a peer that has left; the application logs its own errors."""


def try_listening(host: str, port: int) -> None:
    """Listen at an address for a moment; raises OSError if it cannot be used, or is in use."""
    family, kind, _, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(place)
        probe.listen()


def require_free(address: tuple[str, int]) -> None:
    """Raise :class:`SettingsError` if a process of another command listens at an address already.

    Called before the processes of a command start, which share the address.
    """
    try:
        try_listening(*address)
    except OSError as error:
        raise SettingsError(
            f"CLAMOR_PROBE_ADDRESS cannot be used: {error.strerror}; choose another port"
        ) from error


def start(app: Application, address: tuple[str, int]) -> None:
    """Listen until the process ends.

    Raises
    ------
    OSError
        If the address cannot be used.
    """
    server = _Server(*address)
    server.set_app(app)
    threading.Thread(target=server.serve_forever, name="probes", daemon=True).start()


def application(
    readiness: Readiness, registry: CollectorRegistry, *, is_well: Callable[[], bool] = lambda: True
) -> Application:
    """Return the probes and the metrics of a process without an API.

    ``/health/live`` shows that the process answers and is well: that a restart would not help it.
    ``/health/ready`` shows whether it can do its work.
    """

    def answer(env: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        status, media, body = HTTPStatus.OK, "application/json", b""
        if env["PATH_INFO"] == "/metrics":
            media, body = CONTENT_TYPE_LATEST, generate_latest(registry)
        elif env["PATH_INFO"] == "/health/live":
            status = HTTPStatus.OK if (well := is_well()) else HTTPStatus.SERVICE_UNAVAILABLE
            body = _health(is_well=well, checks={})
        elif env["PATH_INFO"] == "/health/ready":
            is_ready, checks = readiness.look()
            status = HTTPStatus.OK if is_ready else HTTPStatus.SERVICE_UNAVAILABLE
            body = _health(is_well=is_ready, checks=checks)
        else:
            status = HTTPStatus.NOT_FOUND
        headers = [("Content-Type", media), ("Content-Length", str(len(body)))]
        start_response(f"{status.value} {status.phrase}", headers)
        return [body]

    return answer


def _health(*, is_well: bool, checks: dict[str, str]) -> bytes:
    return json.dumps({"status": "ok" if is_well else "unavailable", "checks": checks}).encode()
