"""Operator commands under ``clamor up``: they find the service of its folder."""

from __future__ import annotations

import json
import signal
from contextlib import closing
from pathlib import Path

import pytest

from services.cli import main as cli
from services.client import ApiError, Client
from services.http.errors import UserError
from services.processes import homes
from services.processes.homes import Service, StandaloneError
from tests.support.standalone import Up, clamor, up

pytestmark = pytest.mark.acceptance

COMMANDS = (
    "user create a@example.org",
    "user list",
    "user disable a@example.org",
    "user enable a@example.org",
    "key create a@example.org --name n --scope sessions:read",
    "key list a@example.org",
    "key rotate 0000000000000000",
    "key revoke 0000000000000000",
    "health",
    "schedule",
    "schedule run health_check",
    "queues",
    "queues show audio.detect",
    "queues replay",
    "restore check",
)


def test_users_and_keys(service: Up) -> None:
    home = ("--home", service.home)
    user_id = clamor("user", "create", "team@example.org", *home).stdout.strip()
    assert user_id in clamor("user", "list", *home).stdout
    made = clamor(
        "key", "create", "team@example.org", "--name", "ingest", "--scope", "sessions:read", *home
    ).stdout.strip()
    # Created with the service's pepper, so the service accepts it.
    with closing(Client(service.url, key=made)) as client:
        assert client.models()
    key_id = made.split("_")[1]
    assert key_id in clamor("key", "list", user_id, *home).stdout
    new = clamor("key", "rotate", key_id, "--overlap-hours", 0, *home).stdout.strip()
    clamor("user", "disable", user_id, *home)
    with closing(Client(service.url, key=new)) as client, pytest.raises(ApiError):
        client.models()
    clamor("user", "enable", user_id, *home)
    clamor("key", "revoke", new.split("_")[1], *home)
    with closing(Client(service.url, key=new)) as client, pytest.raises(ApiError):
        client.models()


def test_the_schedule_a_run_and_the_health(service: Up) -> None:
    home = str(service.home)
    ran = clamor("schedule", "run", "health_check", CLAMOR_HOME=home)
    assert json.loads(ran.stdout)["healthy"]
    assert json.loads(clamor("health", "--json", CLAMOR_HOME=home).stdout)["healthy"]
    jobs = json.loads(clamor("schedule", "--json", CLAMOR_HOME=home).stdout)
    assert "health_check" in {job["name"] for job in jobs}
    # An option between the two words of the command is allowed.
    ran = clamor("schedule", "--home", home, "run", "health_check")
    assert json.loads(ran.stdout)["healthy"]


def test_database_and_recordings_of_the_folder_agree(service: Up) -> None:
    found = json.loads(clamor("restore", "check", "--json", "--home", service.home).stdout)
    assert found["refusal"] is None


def test_queues_are_shown_and_their_memory_is_named(service: Up) -> None:
    shown = clamor("queues", "--json", "--home", service.home)
    lines = {line["queue"]: line for line in json.loads(shown.stdout)}
    assert lines["audio.detect"]["ready"] == lines["audio.detect"]["dead"] == 0
    assert lines["audio.detect"]["held"] == 0
    assert lines["audio.detect"]["consumers"] is None
    assert "memory" in shown.stderr
    for command in (("show", "audio.detect"), ("replay",)):
        refused = clamor("queues", *command, "--home", service.home, exit_code=2)
        assert "no replay" in refused.stderr


def test_a_command_that_sends_uses_the_service_that_runs(service: Up) -> None:
    assert "clamor-base" in clamor("models", "--home", service.home).stdout
    # Only a service that a command starts writes this log.
    assert not (service.home / "up.log").exists()


@pytest.mark.parametrize("command", COMMANDS)
def test_without_a_service_the_remedy_is_named(
    command: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("DATABASE_URL", "AMQP_URL", "BLOB_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CLAMOR_HOME", str(tmp_path / "empty"))
    assert cli.main(command.split()) == 2
    told = capsys.readouterr().err
    assert str(tmp_path / "empty") in told
    assert "`clamor up`" in told


def test_a_folder_has_one_service(service: Up) -> None:
    with up(service.home) as second:
        assert second.process.wait(timeout=60) == 2
        for found in (service.home, service.url, service.process.pid):
            assert str(found) in second.says()
    assert homes.find(service.home) is not None


def test_a_service_is_found_from_its_lock_and_not_from_its_file(tmp_path: Path) -> None:
    home = homes.prepare(tmp_path / "home")
    found = Service(url="http://127.0.0.1:1", pid=1, database_url="postgresql://x")
    with homes.held(home) as announce:
        with pytest.raises(UserError, match="still starting"):
            homes.find(home)
        announce(found)
        assert homes.find(home) == found
        with pytest.raises(StandaloneError, match="already runs in"), homes.held(home):
            pass
        left = (home / homes.SERVICE_FILE).read_bytes()
    # As kill -9 leaves it: the file's content stays, its lock does not.
    (home / homes.SERVICE_FILE).write_bytes(left)
    assert homes.find(home) is None


def test_a_service_that_was_killed_is_not_found_and_can_be_started_again(tmp_path: Path) -> None:
    with up(tmp_path / "home") as service:
        service.listen()
        service.end(signal.SIGKILL)
    assert (tmp_path / "home" / homes.SERVICE_FILE).read_bytes()
    ended = clamor("user", "list", "--home", tmp_path / "home", exit_code=2)
    assert "no service runs" in ended.stderr
    with up(tmp_path / "home") as service:
        service.listen()
        assert "standalone@localhost" in clamor("user", "list", "--home", service.home).stdout
