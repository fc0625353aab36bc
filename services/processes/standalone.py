"""Everything in one process, for a laptop: HTTP, in-memory broker and worker threads.

The only module of ``services`` that imports the workers. Postgres is embedded: its server comes
from a wheel, keeps its data in the service's folder, and stops with the last process that uses it.
Nothing here is used if DATABASE_URL names a real server.
"""

from __future__ import annotations

import atexit
import os
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import NoReturn

import dramatiq
import falcon
import httpx

from actors.execution.imports import lasting
from actors.execution.parent import end_with_parent
from actors.messaging import broker
from actors.observability import tracing
from actors.observability.logs import configure
from actors.observability.probe_listener import try_listening
from db import migrate
from db.settings import from_environment
from db.store import Store
from services.app import serving_app
from services.http import keys
from services.processes import embedded, first_key, homes, server, startup
from services.processes.homes import Service, StandaloneError

#: Worker threads share one interpreter, so more of them would only wait for each other.
WORKER_THREADS = 2
#: How soon an idle worker thread notices a request to stop, in milliseconds.
WORKER_IDLE_MS = 200
#: The API loads torch before it answers, which takes minutes on a slow and busy machine.
API_START_S = 600.0
#: Seconds between two checks of Postgres and the API.
WATCH_S = 0.5
#: A stopping service finishes its requests first, then stops Postgres.
STOP_S = server.DRAIN_S + embedded.STOP_S


@contextmanager
def postgres(home: Path) -> Iterator[str]:
    """Start or join the embedded Postgres of a folder, and yield its URL."""
    with embedded.running(homes.prepare(home)) as database:
        yield database.url


def run(*, home: Path, host: str, port: int, is_private: bool) -> None:
    """Serve until a signal arrives; other commands cannot find a private service.

    Raises
    ------
    StandaloneError
        If it cannot start, or if its Postgres ends.
    """
    # Close all files to other users, including recordings and the log.
    os.umask(0o077)
    # Until the server sets its handlers, an exception ensures an orderly end.
    signal.signal(signal.SIGTERM, _exit)
    home = homes.prepare(home)
    _require_free(host, port)
    url = _url(host, port)
    with ExitStack() as stack:
        announce = None if is_private else stack.enter_context(homes.held(home))
        print(f"Starting Postgres; all data are in {home}", file=sys.stderr)
        database = _migrated(home, stack)
        watch = stack.enter_context(_Watch(database).running())
        # The spawned server process reads its settings from the environment.
        os.environ |= homes.environment(home, database.url)
        key = _first_key(home, database.url)

        def on_answer() -> None:
            if announce is not None:
                announce(Service(url=url, pid=os.getpid(), database_url=database.url))
            _print_address(home, host, port, key)

        watch.expect(url, on_answer)
        server.serve(
            "services.processes.standalone:get_app",
            from_environment(),
            host=host,
            port=port,
            processes=1,
        )


def _migrated(home: Path, stack: ExitStack) -> embedded.Server:
    """Start the embedded Postgres of a folder until the end of ``stack``, and migrate it.

    Data from before the first release, which cannot be migrated, are kept beside the new ones.
    """
    with ExitStack() as started:
        database = started.enter_context(embedded.running(home))
        try:
            migrate.upgrade(database.url)
        except migrate.UnreleasedSchema:
            started.close()
            kept = " and ".join(homes.set_aside(home))
            print(
                f"The data in {home} are from before the first release. They are kept as {kept};"
                " starting with new ones",
                file=sys.stderr,
            )
            return _migrated(home, stack)
        stack.push(started.pop_all())
        return database


def _first_key(home: Path, database_url: str) -> str:
    store = Store(database_url, pool_size=1)
    try:
        return first_key.ensure(home, store, keys.Hasher(first_key.pepper(home)))
    finally:
        store.close()


def _print_address(home: Path, host: str, port: int, key: str) -> None:
    lines = [f"Clamor listens at http://{_literal(host)}:{port}/"]
    if sys.stderr.isatty():
        # Only at a terminal: standard error may be a log that is kept.
        lines.append(f"API key: {key}")
    file = shlex.quote(str(home / first_key.KEY_FILE))
    lines += ["For the examples in README.md, set it with:", f"    export KEY=$(cat {file})"]
    print("\n".join(lines), file=sys.stderr, flush=True)


class _Watch:
    """A thread that checks that Postgres is alive and that the API answers."""

    def __init__(self, database: embedded.Server) -> None:
        self._database = database
        self._ended = threading.Event()
        self._expected: tuple[str, Callable[[], None], startup.StartupWait] | None = None
        self._fault: StandaloneError | None = None

    def expect(self, url: str, on_answer: Callable[[], None]) -> None:
        """Call a function once the API answers."""
        wait = startup.StartupWait("Starting the API", log=None, silent_s=API_START_S)
        self._expected = url, on_answer, wait

    @contextmanager
    def running(self) -> Iterator[_Watch]:
        """Watch while the block runs; afterwards raise the fault, if there was one."""
        # Not a daemon: a thread that prints during interpreter shutdown would make it fail.
        thread = threading.Thread(target=self._run, name="watch")
        thread.start()
        try:
            yield self
        finally:
            self._ended.set()
            thread.join()
            # The fault is the cause of any other failure.
            if fault := self._fault or self._database_fault():
                raise fault

    def _run(self) -> None:
        while not self._ended.wait(WATCH_S):
            self._fault = self._database_fault() or self._api_fault()
            if self._fault is not None:
                os.kill(os.getpid(), signal.SIGTERM)
                return

    def _database_fault(self) -> StandaloneError | None:
        if self._database.is_alive():
            return None
        return StandaloneError(
            "the embedded Postgres has ended, so Clamor stopped. Stored data are not lost: start "
            f"it again.\n  {self._database.log} ends:\n  {self._database.last_lines()}"
        )

    def _api_fault(self) -> StandaloneError | None:
        if self._expected is None:
            return None
        url, on_answer, wait = self._expected
        with suppress(httpx.TransportError):
            if httpx.get(f"{url}/health/ready", timeout=2).is_success:
                self._expected = None
                on_answer()
                return None
        try:
            wait.look()
        except StandaloneError as fault:
            return fault
        return None


def _exit(number: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)


def _literal(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _url(host: str, port: int) -> str:
    """Return the URL under which this machine reaches a server that listens at an address."""
    # A wildcard address cannot be connected to.
    reached = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    return f"http://{_literal(reached)}:{port}"


def _require_free(host: str, port: int) -> None:
    """Raise :class:`StandaloneError` if an address is in use: the server would share it."""
    try:
        try_listening(host, port)
    except OSError as error:
        raise StandaloneError(
            f"cannot listen at {_literal(host)}:{port} ({error.strerror}); choose another port "
            "with --port"
        ) from error


def get_app() -> falcon.App[falcon.Request, falcon.Response]:
    """Return the application, with workers in the same process; called in the server process."""
    end_with_parent()
    # Imported here: torch takes seconds to load, and only this process needs it.
    with lasting():
        from actors import worker
        from actors.execution.runtime import Runtime

    settings = from_environment()
    configure(settings.log_level)
    tracing.setup(settings, service="clamor")
    memory = broker.setup(settings)
    runtime = Runtime(settings, memory)
    worker.declare(memory, runtime)
    working = dramatiq.Worker(memory, worker_threads=WORKER_THREADS, worker_timeout=WORKER_IDLE_MS)
    # Dramatiq's command emits this signal; without it no time limit would be enforced.
    memory.emit_after("process_boot")
    working.start()
    atexit.register(working.stop)
    return serving_app(settings, blobs=runtime.blobs, publisher=runtime.publisher)


def stop_at_eof() -> None:
    """Stop this process when its standard input closes."""

    def watch() -> None:
        # Bypass Python's buffer: this thread would hold its lock, and interpreter shutdown would
        # fail.
        while os.read(sys.stdin.fileno(), 1):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="until-eof", daemon=True).start()
