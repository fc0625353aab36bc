"""The standalone service of a folder for one command: the running one, or one that it starts.

Apart from the service itself: the command would load its libraries before the process could start.
"""

from __future__ import annotations

import math
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from services.client import ApiError, Client
from services.processes import embedded, first_key, homes, server, startup

#: A stopping service finishes its requests first, then stops Postgres.
STOP_S = server.DRAIN_S + embedded.STOP_S


@contextmanager
def running(*, home: Path, log: Path) -> Iterator[Client]:
    """Yield a client of the service that runs in a folder, or start one for the block.

    A started service is a separate process. It always ends with this process, because its standard
    input closes then.

    Raises
    ------
    StandaloneError
        If it does not become ready; the message ends with the last lines of its log.
    """
    home = homes.prepare(home)
    if service := homes.find(home):
        with closing(Client(service.url, key=first_key.key_of(home))) as client:
            yield client
        return
    port = server.free_port()
    with embedded.private(log) as log_file:
        wait = startup.StartupWait(
            "Starting Clamor", log=log, silent_s=math.inf, shown=sys.stderr.isatty()
        )
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "services.cli",
                "up",
                "--home",
                str(home),
                "--port",
                str(port),
                "--until-eof",
            ],
            stdin=subprocess.PIPE,
            stdout=log_file,
            stderr=log_file,
            start_new_session=True,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        _await_ready(process, url, wait)
        with closing(Client(url, key=first_key.key_of(home))) as client:
            yield client
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(timeout=STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _await_ready(process: subprocess.Popen[bytes], url: str, wait: startup.StartupWait) -> None:
    """Wait until a service answers. A service without progress ends by itself."""
    with closing(Client(url)) as client:
        while process.poll() is None:
            try:
                client.ready()
                return
            except ApiError:
                time.sleep(embedded.POLL_S)
                wait.look()
    raise wait.failure(f"failed with exit code {process.returncode}")
