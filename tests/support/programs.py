"""The programs that tests need besides Python packages: the only list of them.

``make test`` runs this module first: ``python -m tests.support.programs``. As root on Debian it
installs missing ones; otherwise it prints the command to run. Tests locate programs here, and end
with :func:`remedy` if one is missing.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

#: Location of RabbitMQ's start script in packages. The one on Debian's path always changes the
#: user.
RABBITMQ_SCRIPTS = (
    "/usr/lib/rabbitmq/bin/rabbitmq-server",
    "/opt/homebrew/opt/rabbitmq/sbin/rabbitmq-server",
    "/usr/local/opt/rabbitmq/sbin/rabbitmq-server",
    "/opt/rabbitmq/sbin/rabbitmq-server",
)
#: Debian keeps PgBouncer off the path of users.
SYSTEM_FOLDERS = ("/usr/sbin",)
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
POLICY = Path("/usr/sbin/policy-rc.d")


def rabbitmq_server() -> str | None:
    """Return the path of RabbitMQ's start script; None without RabbitMQ."""
    known = (name for name in RABBITMQ_SCRIPTS if Path(name).is_file())
    return next(known, None) or shutil.which("rabbitmq-server")


def browser() -> str | None:
    """Return the path of Chromium or Chrome; None without either."""
    return next((found for name in BROWSERS if (found := shutil.which(name))), None)


def postgres_client(name: str) -> str | None:
    """Return the path of a client program of Postgres, such as pg_dump."""
    return shutil.which(name)


def pgbouncer() -> str | None:
    """Return the path of PgBouncer; None without it."""
    return shutil.which("pgbouncer", path=os.pathsep.join((os.environ["PATH"], *SYSTEM_FOLDERS)))


def _libatomic() -> bool:
    """Return whether the library for Playwright's driver on Linux is installed."""
    try:
        return sys.platform != "linux" or bool(ctypes.CDLL("libatomic.so.1"))
    except OSError:
        return False


#: Debian's packages, each with a check for its program, from any source.
PACKAGES: dict[str, Callable[[], object]] = {
    "chromium": browser,
    "curl": partial(shutil.which, "curl"),
    "espeak-ng": partial(shutil.which, "espeak-ng"),
    "libatomic1": _libatomic,
    "openssl": partial(shutil.which, "openssl"),
    "pgbouncer": pgbouncer,
    "postgresql-client": partial(postgres_client, "pg_dump"),
    "prometheus": partial(shutil.which, "promtool"),
    "rabbitmq-server": rabbitmq_server,
}
INSTALL = ("apt-get", "install", "--yes", "--no-install-recommends")


def missing(packages: Iterable[str] = PACKAGES) -> list[str]:
    """Return the packages whose programs are not on this machine."""
    return [package for package in packages if not PACKAGES[package]()]


def remedy(package: str) -> str:
    """Return a sentence with a missing package and the command that installs all of them."""
    command = " ".join(("sudo", *INSTALL, *PACKAGES))
    return f"{package} is not installed. To install all programs of the tests: {command}"


def main() -> int:
    """Install missing programs as root on Debian, else print how; tests then skip or fail."""
    absent = missing()
    if not absent:
        return 0
    print(f"==> The tests need Debian packages that are not installed: {', '.join(absent)}")
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        print(
            "    Tests that need them are skipped (with CI=true they fail). To install them:\n"
            f"    {' '.join(('sudo', *INSTALL, *absent))}",
            flush=True,
        )
        return 0
    print("    Installing them, which takes a minute or more", flush=True)
    started = time.monotonic()
    if _install(absent):
        print(f"==> Installed in {time.monotonic() - started:.0f} s", flush=True)
    else:
        print("==> Not installed: apt-get's reason is above. Tests that need them are skipped, and")
        print("    with CI=true they fail.", flush=True)
    return 0


def _install(packages: Iterable[str]) -> bool:
    """Run apt-get with visible output; return whether it succeeded."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    with _no_services():
        return all(
            subprocess.run(command, env=environment, check=False).returncode == 0
            for command in (("apt-get", "--quiet", "update"), (*INSTALL, "--quiet", *packages))
        )


@contextlib.contextmanager
def _no_services() -> Iterator[None]:
    """Prevent Debian's packages from starting services on installation."""
    if POLICY.exists():
        yield
        return
    POLICY.write_text("#!/bin/sh\nexit 101\n")
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        POLICY.unlink()


if __name__ == "__main__":
    sys.exit(main())
