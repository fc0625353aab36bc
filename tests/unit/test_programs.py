"""Programs that tests need: one list that documents name; without one, a skip that says how."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support import programs, servers
from tests.support.browser import chromium
from tests.support.pgbouncer import pgbouncer

ROOT = Path(__file__).parents[2]


@pytest.fixture
def bare_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Simulate a machine without any of the programs."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(programs, "RABBITMQ_SCRIPTS", ())
    monkeypatch.setattr(programs, "SYSTEM_FOLDERS", ())
    monkeypatch.setitem(programs.PACKAGES, "libatomic1", lambda: False)
    return tmp_path


def test_every_package_is_named_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text()
    assert [name for name in programs.PACKAGES if f"`{name}`" not in readme] == []


def test_make_test_prints_the_command_for_an_ordinary_user(
    bare_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert programs.missing() == list(programs.PACKAGES)
    assert programs.main() == 0
    told = capsys.readouterr().out
    command = "sudo apt-get install --yes --no-install-recommends"
    packages = "chromium curl espeak-ng libatomic1 openssl pgbouncer postgresql-client prometheus"
    assert f"{command} {packages} rabbitmq-server" in told


def test_a_program_that_is_there_is_not_asked_for(bare_path: Path) -> None:
    curl = bare_path / "curl"
    curl.write_text("#!/bin/sh\n")
    curl.chmod(0o755)
    assert "curl" not in programs.missing()


def test_without_a_browser_the_reason_names_the_command(bare_path: Path) -> None:
    with pytest.raises(servers.ServerUnavailable, match=r"libatomic1 is not .* apt-get install"):
        chromium().__enter__()


def test_without_pgbouncer_the_reason_names_the_command(
    bare_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", "true")
    with (
        pytest.raises(pytest.fail.Exception, match=r"pgbouncer is not .* apt-get install"),
        pgbouncer("postgresql://127.0.0.1/none"),
    ):
        pass


def test_without_rabbitmq_the_reason_names_the_command(bare_path: Path) -> None:
    with (
        pytest.raises(servers.ServerUnavailable, match=r"rabbitmq-server is .* apt-get install"),
        servers.private_rabbitmq(),
    ):
        pass
