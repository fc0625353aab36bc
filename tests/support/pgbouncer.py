"""A PgBouncer of one test, in transaction mode."""

from __future__ import annotations

import os
import pwd
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
from psycopg import conninfo

from services.processes.server import free_port
from tests.support import programs, servers
from tests.support.cluster import eventually

#: Its console's user and database.
CONSOLE = "pgbouncer"
STOP_S = 10.0


class PgBouncer:
    """Pools the connections to a server; every user in its list may log in without a password."""

    def __init__(self, server_url: str, folder: Path, *, options: str) -> None:
        program = programs.pgbouncer()
        if program is None:
            raise servers.ServerUnavailable(programs.remedy("pgbouncer"))
        self.port = free_port()
        self._folder = folder
        server = conninfo.conninfo_to_dict(server_url)
        kept = {key: server[key] for key in ("host", "port", "password") if key in server}
        database = " ".join(f"{key}={value}" for key, value in kept.items())
        # It does not run as root.
        user = "user = nobody\n" if os.geteuid() == 0 else ""
        (folder / "pgbouncer.ini").write_text(
            f"[databases]\n* = {database}\n"
            f"[pgbouncer]\n{user}listen_addr = 127.0.0.1\nlisten_port = {self.port}\n"
            f"unix_socket_dir =\nauth_type = trust\nauth_file = {folder}/users.txt\n"
            f"admin_users = {CONSOLE}\npool_mode = transaction\nmax_client_conn = 100\n{options}\n"
        )
        (folder / "users.txt").write_text("")
        self.log = folder / "pgbouncer.log"
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [program, str(folder / "pgbouncer.ini")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._users: list[str] = []

    def url(self, database_url: str) -> str:
        """Return the URL of a database through the pooler, for the user in its direct URL."""
        parts = urlsplit(database_url)
        user = parts.username or pwd.getpwuid(os.geteuid()).pw_name
        self._let_in(user)
        netloc = f"{user}@127.0.0.1:{self.port}"
        return parts._replace(netloc=netloc, query="").geturl()

    def ask(self, command: str) -> list[dict[str, Any]]:
        """Run a command of the console; return the rows of its answer."""
        with psycopg.connect(
            host="127.0.0.1", port=self.port, user=CONSOLE, dbname=CONSOLE, autocommit=True
        ) as console:
            cursor = console.execute(command.encode())
            if cursor.description is None:
                return []
            names = [column.name for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor]

    def statements(self, database_url: str) -> int:
        """Return how many statements it has passed on for a database."""
        name = urlsplit(database_url).path.removeprefix("/")
        totals = {row["database"]: row for row in self.ask("SHOW STATS_TOTALS")}
        return int(totals[name]["query_count"]) if name in totals else 0

    def stop(self) -> None:
        """End it at once, with its connections."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait(STOP_S)

    def wait(self) -> None:
        """Wait until it answers."""

        def answers() -> bool:
            assert self._process.poll() is None, self.log.read_text()
            try:
                return bool(self.ask("SHOW VERSION"))
            except psycopg.OperationalError:
                return False

        eventually(answers, what="PgBouncer")

    def _let_in(self, user: str) -> None:
        if user in self._users:
            return
        self._users.append(user)
        lines = "".join(f'"{name}" ""\n' for name in self._users)
        (self._folder / "users.txt").write_text(lines)
        self.ask("RELOAD")


@contextmanager
def pgbouncer(server_url: str, *, pool_size: int = 2, options: str = "") -> Iterator[PgBouncer]:
    """Run a PgBouncer for this test alone."""
    with tempfile.TemporaryDirectory(prefix="clamor-pgbouncer-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        try:
            started = PgBouncer(
                server_url, folder, options=f"default_pool_size = {pool_size}\n{options}"
            )
        except servers.ServerUnavailable as reason:
            servers.unavailable(reason)
        try:
            started.wait()
            yield started
        finally:
            started.stop()
