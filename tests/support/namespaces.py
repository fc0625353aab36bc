"""A process that is PID 1, as the first one of a container is."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import psutil

from tests.support import servers
from tests.support.cluster import Process, eventually


def as_pid_1() -> list[str]:
    """Return a command prefix that makes the command PID 1 of a new namespace.

    If namespaces are not permitted, the test is skipped with the reason, and fails in CI.
    """
    words = ["unshare", "--pid", "--fork", "--kill-child"]
    if os.geteuid() != 0:
        words += ["--user", "--map-root-user"]
    options = [["--mount-proc"]]
    if not _is_shared("/proc"):
        # In a chroot the root is not a mount whose propagation could be changed.
        options.append(["--mount-proc", "--propagation", "unchanged"])
    for more in options:
        try:
            tried = subprocess.run(
                [*words, *more, "true"], capture_output=True, text=True, check=False
            )
        except FileNotFoundError:
            servers.unavailable("No PID namespace: there is no unshare; install util-linux")
        if not tried.returncode:
            return [*words, *more]
    servers.unavailable(f"No PID namespace: {tried.stderr.strip()}; run as root")


def _is_shared(folder: str) -> bool:
    """Return whether mounts there propagate to other mount namespaces."""
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    return any(" shared:" in line for line in mounts if line.split()[4] == folder)


def pid_1_of(process: Process) -> psutil.Process:
    """Return the process that is PID 1 below a command with the prefix of `as_pid_1`."""
    return eventually(
        lambda: next(iter(psutil.Process(process.popen.pid).children()), None), what="PID 1"
    )
