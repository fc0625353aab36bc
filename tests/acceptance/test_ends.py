"""How processes end: by a signal, also as PID 1, and together with their parent."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from db.settings import Settings
from services.client import ApiError, Client
from services.processes.server import free_port
from tests.support import recordings
from tests.support.cluster import Cluster, Process, eventually
from tests.support.namespaces import as_pid_1, pid_1_of

pytestmark = pytest.mark.acceptance

#: Sets the clock to a full hour, at which a job is due.
FULL_HOUR = """
import pendulum
hour = pendulum.now().start_of("hour").add(seconds=10)
pendulum.now = lambda *_: hour
"""


def scheduler(cluster: Cluster, _home: Path, under: list[str]) -> Process:
    process = cluster.start("scheduler", under=under)
    eventually(lambda: "vacuum_database" in process.log.read_text(), what="a scheduler")
    return process


def worker(cluster: Cluster, _home: Path, under: list[str]) -> Process:
    return cluster.worker(processes=2, under=under)


def serve(cluster: Cluster, _home: Path, under: list[str]) -> Process:
    return cluster.serve(free_port(), "--processes", "2", under=under)


def up(cluster: Cluster, home: Path, under: list[str]) -> Process:
    port = free_port()
    process = cluster.start("up", "--port", str(port), "--home", str(home), under=under)
    client = Client(f"http://127.0.0.1:{port}")

    def ready() -> bool:
        try:
            return client.ready()
        except ApiError:
            return False

    eventually(ready, what=f"the service; see {process.log}")
    client.close()
    return process


Start = Callable[[Cluster, Path, list[str]], Process]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("start", "stop"),
    [
        (scheduler, signal.SIGTERM),
        (scheduler, signal.SIGINT),
        (worker, signal.SIGTERM),
        (serve, signal.SIGTERM),
        (up, signal.SIGTERM),
    ],
)
def test_as_pid_1_a_command_ends_at_a_signal_with_code_0(
    start: Start, stop: signal.Signals, rabbit_settings: Settings, tmp_path: Path
) -> None:
    under = as_pid_1()
    with Cluster(rabbit_settings, tmp_path) as cluster:
        process = start(cluster, tmp_path / "home", under)
        pid_1_of(process).send_signal(stop)
        assert process.popen.wait(3 if start is scheduler else 30) == 0, process.log.read_text()


def test_as_pid_1_a_scheduler_ends_in_the_middle_of_a_publish(
    rabbit_settings: Settings, tmp_path: Path
) -> None:
    under = as_pid_1()
    (tmp_path / "sitecustomize.py").write_text(FULL_HOUR)
    with Cluster(rabbit_settings, tmp_path) as cluster, socket.create_server(("", 0)) as broker:
        # It accepts the connection of the first tick and never answers.
        cluster.env["AMQP_URL"] = f"amqp://127.0.0.1:{broker.getsockname()[1]}"
        process = cluster.start(
            "scheduler", under=["env", f"PYTHONPATH={tmp_path}:{os.getcwd()}", *under]
        )
        broker.settimeout(60)
        connection, _ = broker.accept()
        with connection:
            pid_1_of(process).terminate()
            assert process.popen.wait(2) == 0, process.log.read_text()


@pytest.mark.parametrize("start", ["scheduler", "worker"])
def test_a_signal_that_comes_while_a_command_loads_is_not_lost(
    start: str, rabbit_settings: Settings, tmp_path: Path
) -> None:
    under = as_pid_1()
    with Cluster(rabbit_settings, tmp_path) as cluster:
        process = cluster.start(start, under=under)
        pid_1 = pid_1_of(process)
        eventually(lambda: "services.cli" not in pid_1.cmdline(), what="another Python")
        pid_1.terminate()
        assert process.popen.wait(60) == 0, process.log.read_text()


def test_as_pid_1_any_other_command_ends_at_sigterm(
    rabbit_settings: Settings, tmp_path: Path
) -> None:
    """An example is a migration in a Kubernetes job whose database does not answer."""
    under = as_pid_1()
    with Cluster(rabbit_settings, tmp_path) as cluster, socket.create_server(("", 0)) as database:
        port = database.getsockname()[1]
        cluster.env["DATABASE_URL"] = f"postgresql://postgres@127.0.0.1:{port}/clamor"
        process = cluster.start("migrate", under=under)
        database.settimeout(60)
        connection, _ = database.accept()
        with connection:
            pid_1_of(process).terminate()
            assert process.popen.wait(5) == 128 + signal.SIGTERM, process.log.read_text()


@contextmanager
def below(pid: int) -> Iterator[list[psutil.Process]]:
    """Yield the Python processes below one; end them on leaving the block."""
    found = [
        child
        for child in psutil.Process(pid).children(recursive=True)
        if child.exe() == os.path.realpath(sys.executable)
    ]
    try:
        yield found
    finally:
        for child in found:
            if child.is_running():
                child.kill()


@pytest.mark.slow
@pytest.mark.parametrize("start", [worker, serve, up])
def test_children_end_with_a_master_that_is_killed(
    start: Start, rabbit_settings: Settings, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    with Cluster(rabbit_settings, tmp_path) as cluster:
        process = start(cluster, home, [])
        with below(process.popen.pid) as children:
            assert len(children) >= (1 if start is up else 2)
            os.kill(process.popen.pid, signal.SIGKILL)
            _gone, alive = psutil.wait_procs(children, timeout=15)
            assert not alive
    if start is up:
        # The embedded Postgres stays, for the next start to join it.
        running = (home / "postgres" / "postmaster.pid").read_text().split()
        os.kill(int(running[0]), signal.SIGQUIT)


@pytest.mark.slow
def test_a_worker_that_is_still_loading_ends_with_its_master(
    rabbit_settings: Settings, tmp_path: Path
) -> None:
    """The master dies before the child asks the kernel to signal its death."""
    with Cluster(rabbit_settings, tmp_path) as cluster:
        process = cluster.start("worker", "--processes", "2")
        master = psutil.Process(process.popen.pid)
        eventually(lambda: len(master.children()) == 2, what="its processes")
        with below(master.pid) as children:
            os.kill(master.pid, signal.SIGKILL)
            # Up to the time that torch takes to load.
            _gone, alive = psutil.wait_procs(children, timeout=60)
            assert not alive
        assert "ready for action" not in process.log.read_text()


@pytest.mark.slow
def test_a_service_ends_with_the_command_that_started_it(tmp_path: Path) -> None:
    # Too long for one claim: its decoded audio is in the blob store.
    file = recordings.write(tmp_path / "11.flac", recordings.encode(recordings.long(11)))
    command = subprocess.Popen(
        [sys.executable, "-m", "services.cli", "process", str(file), "--home", tmp_path / "home"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        eventually(lambda: list((tmp_path / "home").rglob("*pcm*")), what="work that has begun")
        with below(command.pid) as children:
            assert len(children) >= 2
            command.kill()
            _gone, alive = psutil.wait_procs(children, timeout=30)
            assert not alive
    finally:
        command.kill()
        command.wait()
