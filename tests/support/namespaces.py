"""A process that is PID 1, as the first one of a container is."""

from __future__ import annotations

import os
import subprocess

import psutil

from tests.support import servers
from tests.support.cluster import Process, eventually


def as_pid_1() -> list[str]:
    """The words before a command that make it PID 1 of a namespace of its own.

    Without the right to make one the test is skipped with the reason, and fails in CI.
    """
    words = ["unshare", "--pid", "--fork", "--kill-child"]
    if os.geteuid() != 0:
        words += ["--user", "--map-root-user"]
    # In a chroot nothing can be mounted for it; the processes there are found in the old /proc.
    for more in (["--mount-proc"], []):
        try:
            tried = subprocess.run(
                [*words, *more, "true"], capture_output=True, text=True, check=False
            )
        except FileNotFoundError:
            servers.unavailable("No PID namespace: there is no unshare; install util-linux")
        if not tried.returncode:
            return [*words, *more]
    servers.unavailable(f"No PID namespace: {tried.stderr.strip()}; run as root")


def pid_1_of(process: Process) -> psutil.Process:
    """The process that is PID 1 below a command that began with `as_pid_1`."""
    return eventually(
        lambda: next(iter(psutil.Process(process.popen.pid).children()), None), what="PID 1"
    )
