"""A hostile caller beside the stream: silent connections, uploads that break off, wrong keys."""

from __future__ import annotations

import socket
import threading
from collections import Counter
from contextlib import ExitStack, closing, suppress
from urllib.parse import urlsplit

from tests.support import accounts

#: Held at once, until the server closes them.
N_SILENT, N_UPLOADS, N_WRONG = 200, 16, 50
#: Seconds between two rounds.
PAUSE_S = 2.0
TIMEOUT_S = 5.0

_UPLOAD = (
    "POST /v1/sessions HTTP/1.1\r\nHost: clamor\r\nContent-Type: audio/wav\r\n"
    f"Authorization: Bearer {accounts.ADMIN_KEY}\r\nContent-Length: 1000000\r\n\r\nRIFF"
)
_WRONG = "GET /v1/sessions HTTP/1.1\r\nHost: clamor\r\nAuthorization: Bearer {}\r\n\r\n"


class HostileCaller:
    """Attacks an API between start and stop. It makes no session."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        self._place = parts.hostname, parts.port or 80
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="hostile", daemon=True)
        #: What was sent, by kind.
        self.sent: Counter[str] = Counter()

    def start(self) -> None:
        """Start the attack."""
        self._thread.start()

    def stop(self) -> None:
        """Close all connections."""
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        number = 0
        while not self._stopped.is_set():
            with ExitStack() as held:
                for kind, count in (("silent", N_SILENT), ("upload", N_UPLOADS), ("key", N_WRONG)):
                    for _ in range(count):
                        number += 1
                        text = {"silent": "", "upload": _UPLOAD, "key": _WRONG.format(number)}[kind]
                        # The API may be down, or refuse more connections.
                        with suppress(OSError):
                            held.enter_context(closing(self._sent(text)))
                            self.sent[kind] += 1
                self._stopped.wait(PAUSE_S)

    def _sent(self, text: str) -> socket.socket:
        wire = socket.create_connection(self._place, TIMEOUT_S)
        wire.sendall(text.encode())
        return wire
