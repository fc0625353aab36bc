"""``clamor up`` as a user starts it: a process whose output is read."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from services.client import Client
from services.processes import server
from services.processes.first_key import key_of
from tests.support.cluster import eventually

LISTENS = "Clamor listens at "
#: Torch loads slowly on a busy machine.
START_S = 120


def environment(**variables: str) -> dict[str, str]:
    """Return the environment of a user without any settings of an installation.

    The backbone is off, so that results do not depend on the weights on this machine.
    """
    ours = ("CLAMOR_", "DATABASE_URL", "AMQP_URL", "BLOB_URL")
    kept = {name: text for name, text in os.environ.items() if not name.startswith(ours)}
    return kept | {"CLAMOR_BACKBONE_URL": "off"} | variables


def clamor(
    *arguments: object, exit_code: int = 0, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end in such an environment."""
    ended = subprocess.run(
        [sys.executable, "-m", "services.cli", *map(str, arguments)],
        env=environment(**variables),
        check=False,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert ended.returncode == exit_code, ended.stdout + ended.stderr
    return ended


@dataclass
class Up:
    """A running ``clamor up``."""

    process: subprocess.Popen[bytes]
    home: Path
    url: str
    output: Path

    def says(self) -> str:
        """Return all of its output."""
        return self.output.read_text()

    def listen(self) -> None:
        """Wait until it prints its address."""

        def listens() -> bool:
            assert self.process.poll() is None, self.says()
            return LISTENS in self.says()

        eventually(listens, timeout_s=START_S, what="a service that listens")

    def postgres_pid(self) -> int:
        """Return the process ID of its Postgres."""
        return int((self.home / "postgres" / "postmaster.pid").read_text().split()[0])

    @contextmanager
    def client(self) -> Iterator[Client]:
        """Return a client with all rights."""
        with closing(Client(self.url, key=key_of(self.home))) as client:
            yield client

    def end(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal, end a server left over after SIGKILL, and return the exit code."""
        children = psutil.Process(self.process.pid).children()
        self.process.send_signal(how)
        code = self.process.wait(timeout=120)
        for child in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                if "spawn_main" in " ".join(child.cmdline()):
                    child.kill()
        return code


@contextmanager
def up(
    home: Path,
    *options: str,
    program: Sequence[str] = ("-m", "services.cli"),
    **variables: str,
) -> Iterator[Up]:
    """Start ``clamor up`` over a folder, without waiting until it listens."""
    port = server.free_port()
    output = home.with_name(f"{home.name}-{port}.txt")
    with output.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, *program, "up", "--home", str(home), "--port", str(port), *options],
            stdin=subprocess.PIPE,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=environment(**variables),
        )
    try:
        yield Up(process, home, f"http://127.0.0.1:{port}", output)
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(timeout=120)
        if process.stdin is not None:
            process.stdin.close()
