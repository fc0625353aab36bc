"""Clamor's own processes, started as an operator would, and killed as a failure would."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self, TypeVar

import psutil

from db.settings import Settings
from services.client import ApiError, Client
from services.processes.server import free_port
from tests.support import accounts

T = TypeVar("T")

#: A worker loads torch, which takes a minute on a busy machine.
START_S = 180.0


def eventually(look: Callable[[], T | None], *, timeout_s: float = 60.0, what: str = "") -> T:
    """Return the first true result of ``look``."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        found = look()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"waited {timeout_s:.0f} s in vain: {what or look}")


class Process:
    """One running ``clamor`` command and its children; ``under`` is a prefix of the command.

    ``code`` is the folder of the code that runs, by default this one. ``module`` is the program.
    """

    def __init__(
        self,
        arguments: list[str],
        *,
        env: dict[str, str],
        log: Path,
        under: Sequence[str] = (),
        code: Path | None = None,
        module: str = "services.cli",
    ) -> None:
        self.log = log
        with log.open("ab") as file:
            self.popen = subprocess.Popen(
                [*under, sys.executable, "-m", module, *arguments],
                env={**os.environ, **env},
                cwd=code,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )

    def kill(self) -> None:
        """Send SIGKILL, to all children as well."""
        os.killpg(self.popen.pid, signal.SIGKILL)
        self.popen.wait()

    def freeze(self) -> None:
        """Stop execution, with all children, as on an overloaded machine."""
        os.killpg(self.popen.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Continue after :meth:`freeze`; do nothing if the process is dead."""
        with suppress(ProcessLookupError):
            os.killpg(self.popen.pid, signal.SIGCONT)

    def stop(self, timeout_s: float = 40.0) -> int:
        """Send SIGTERM, as Kubernetes does; return the exit code."""
        self.popen.terminate()
        return self.popen.wait(timeout_s)

    def peak_memory_bytes(self) -> int:
        """Return the maximum resident memory of the process and its children so far.

        Linux maintains this figure, so no peak is missed between two measurements.
        """
        process = psutil.Process(self.popen.pid)
        return sum(map(peak_bytes, [process, *process.children(recursive=True)]))


def peak_bytes(process: psutil.Process) -> int:
    """Return the maximum resident memory of a process so far."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    [kib] = re.findall(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
    return int(kib) * 1024


class Cluster:
    """An API and workers over real servers.

    ``code`` is the folder of the code that runs, by default this one.
    """

    def __init__(self, settings: Settings, folder: Path, *, code: Path | None = None) -> None:
        self._folder = folder
        self._code = code
        self._running: list[Process] = []
        self.env = {
            "DATABASE_URL": settings.database_url,
            "AMQP_URL": settings.amqp_url,
            "BLOB_URL": settings.blob_url,
            "CLAMOR_QUEUE_PREFIX": settings.queue_prefix,
            "CLAMOR_KEY_PEPPER": settings.key_pepper,
            "CLAMOR_SECRET_KEYS": ",".join(settings.secret_keys or accounts.SECRET_KEYS),
            "CLAMOR_DATABASE_POOLER": settings.database_pooler,
            "CLAMOR_LEASE_S": str(settings.lease_s),
            "CLAMOR_DEADLINE_S": str(settings.deadline_s),
            "CLAMOR_MAX_ATTEMPTS": str(settings.max_attempts),
            "CLAMOR_ONE_CLAIM_S": str(settings.one_claim_s),
            "CLAMOR_RECOVERY_S": str(settings.recovery_s),
            "CLAMOR_RATE_LIMIT": str(settings.rate_limit_per_s),
            "CLAMOR_BACKBONE_URL": settings.backbone_url,
        }
        if code is not None:
            # Before the folder of the installed package.
            self.env["PYTHONPATH"] = str(code)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_failure: object) -> None:
        for process in self._running:
            if process.popen.poll() is None:
                process.kill()

    def start(self, *arguments: str, under: Sequence[str] = ()) -> Process:
        """Start one ``clamor`` command; ``under`` is a prefix of the command."""
        log = self._folder / f"{len(self._running)}-{arguments[0]}.log"
        process = Process(list(arguments), env=self.env, log=log, under=under, code=self._code)
        self._running.append(process)
        return process

    def run(self, *arguments: str) -> str:
        """Run one ``clamor`` command to its end; return its standard output."""
        ended = subprocess.run(
            [sys.executable, "-m", "services.cli", *arguments],
            env={**os.environ, **self.env},
            cwd=self._code,
            capture_output=True,
            text=True,
            check=False,
            timeout=START_S,
        )
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    def worker(self, *, processes: int = 1, under: Sequence[str] = ()) -> Process:
        """Start a worker, and wait until all of its processes are ready."""
        process = self.start("worker", "--processes", str(processes), under=under)
        eventually(
            lambda: process.log.read_text().count("Worker process is ready") == processes,
            timeout_s=START_S,
            what=f"a worker; see {process.log}",
        )
        return process

    @contextmanager
    def api(self) -> Iterator[Client]:
        """Start an API, and wait until it responds."""
        port = free_port()
        self.serve(port)
        client = Client(f"http://127.0.0.1:{port}", key=accounts.ADMIN_KEY)
        yield client
        client.close()

    def serve(self, port: int, *arguments: str, under: Sequence[str] = ()) -> Process:
        """Start an API on a port, and wait until it responds."""
        process = self.start("serve", "--port", str(port), *arguments, under=under)
        client = Client(f"http://127.0.0.1:{port}", key=accounts.ADMIN_KEY)

        def ready() -> bool:
            assert process.popen.poll() is None, process.log.read_text()
            try:
                return client.ready()
            except ApiError:
                return False

        eventually(ready, what=f"the API; see {process.log}")
        client.close()
        return process
