"""The folder of a standalone service: its permissions, and the service that runs in it.

A running service holds a lock on ``service.json``. So operators' commands find it, and never take a
file that a killed service left behind for a running one.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import msgspec

from db import settings, typed
from db.settings import Settings
from services.http.errors import UserError
from services.processes import first_key

SERVICE_FILE = "service.json"
#: The folders of the data.
POSTGRES, BLOBS = "postgres", "blobs"
#: A command that checks for a running service holds the lock for a moment, so a starting service
#: retries for this long.
LOCK_WAIT_S = 1.0
LOCK_POLL_S = 0.05
CHOOSE = "choose another folder with --home or CLAMOR_HOME"


class StandaloneError(UserError):
    """The standalone service cannot start or continue; the message names the reason."""


class Service(msgspec.Struct, kw_only=True):
    """A running standalone service, as its folder describes it."""

    url: str
    pid: int
    database_url: str


def prepare(home: Path) -> Path:
    """Create the folder, or close it to other users; return its absolute path.

    Root's folder can be passed through but not listed, since root's embedded Postgres runs as
    another user and its data are inside.

    Raises
    ------
    StandaloneError
        If it belongs to another user, or cannot be created.
    """
    home = home.absolute()
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        if home.stat().st_uid != os.geteuid():
            raise StandaloneError(f"{home} belongs to another user; {CHOOSE}")
        home.chmod(0o711 if os.geteuid() == 0 else 0o700)
    except OSError as error:
        raise StandaloneError(f"{home} cannot be used ({error.strerror}); {CHOOSE}") from error
    return home


def set_aside(home: Path) -> list[str]:
    """Rename the data of a folder, from before the first release; return their new names.

    The database must have stopped. The folder can have new data then.
    """
    suffix = time.strftime("unreleased-%Y%m%dT%H%M%S")
    kept = [name for name in (POSTGRES, BLOBS) if (home / name).exists()]
    return [(home / name).rename(home / f"{name}.{suffix}").name for name in kept]


def environment(home: Path, database_url: str) -> dict[str, str]:
    """Return the settings of the service in a folder, as environment variables."""
    return {
        "DATABASE_URL": database_url,
        "AMQP_URL": "memory://",
        "BLOB_URL": (home.absolute() / BLOBS).as_uri(),
        "CLAMOR_KEY_PEPPER": first_key.pepper(home),
        "CLAMOR_SECRET_KEYS": first_key.secret_key(home),
    }


@contextmanager
def held(home: Path) -> Iterator[Callable[[Service], None]]:
    """Lock a folder for the one service that runs in it; yield a function that announces it.

    Raises
    ------
    StandaloneError
        If another service holds it.
    """
    descriptor = os.open(home / SERVICE_FILE, os.O_RDWR | os.O_CREAT, 0o600)
    with os.fdopen(descriptor, "r+b") as file:
        deadline = time.monotonic() + LOCK_WAIT_S
        while not _locked(file, fcntl.LOCK_EX):
            if time.monotonic() > deadline:
                where = _where(file.read())
                raise StandaloneError(
                    f"a service already runs in {home}{where}; stop it, or {CHOOSE}"
                )
            time.sleep(LOCK_POLL_S)
        file.truncate(0)

        def announce(service: Service) -> None:
            file.write(msgspec.json.encode(service))
            file.flush()

        try:
            yield announce
        finally:
            file.truncate(0)


def find(home: Path) -> Service | None:
    """Return the service that runs in a folder, or None.

    Raises
    ------
    UserError
        If it is still starting, or the folder belongs to another user.
    """
    try:
        with (home / SERVICE_FILE).open("rb") as file:
            if _locked(file, fcntl.LOCK_SH):
                return None
            written = file.read()
    except FileNotFoundError:
        return None
    except PermissionError as error:
        raise UserError(f"{home} belongs to another user: run this as that user") from error
    if not written:
        raise UserError(f"the service in {home} is still starting; retry when it listens")
    return typed.decode(written, Service)


def installation(home: Path | None) -> tuple[Settings, Service | None]:
    """Return the settings of the installation that an operator's command addresses.

    This is the installation of the environment. Without ``DATABASE_URL``, or if ``home`` is given,
    it is the standalone service that runs in a folder; the service is then returned, too.

    Raises
    ------
    UserError
        If there is neither.
    SettingsError
        If a variable is missing or cannot be read.
    """
    if home is None and settings.is_given(settings.DATABASE_VARIABLE):
        return settings.from_environment(), None
    home = home or settings.home_folder()
    service = find(home)
    if service is None:
        raise UserError(
            f"no service runs in {home}, and DATABASE_URL is not set. Start `clamor up`, or name "
            "the folder of a running service with --home or CLAMOR_HOME; for an installation with "
            "RabbitMQ set its environment (docs/settings.md)"
        )
    return settings.from_environment(os.environ | environment(home, service.database_url)), service


def _locked(file: IO[bytes], how: int) -> bool:
    """Try to lock a file; return False if another process holds the lock."""
    try:
        fcntl.flock(file, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _where(written: bytes) -> str:
    if not written:
        return " (it is starting)"
    service = typed.decode(written, Service)
    return f" at {service.url} (process {service.pid})"
