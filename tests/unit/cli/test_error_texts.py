"""The errors of commands, in one place for review.

Other tests assert exit codes and figures. The sentences are in ``golden/errors.txt``.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from services.cli.main import USAGE_ERROR, main
from services.cli.migrate import FAILED
from tests.support import golden

GOLDEN = Path(__file__).parent / "golden" / "errors.txt"
SENTENCES = golden.read(GOLDEN)

#: Nothing listens at these addresses.
ENVIRONMENT = {
    "DATABASE_URL": "postgresql://postgres:hidden@127.0.0.1:9/none",
    "AMQP_URL": "amqp://guest:guest@127.0.0.1:9/",
    "BLOB_URL": "file:///nowhere",
    "CLAMOR_KEY_PEPPER": "a pepper of the tests that opens nothing",
}
SERVER = ("--api", "http://127.0.0.1:9")

#: Commands that fail, with what differs in their environment.
COMMANDS: dict[str, tuple[tuple[str, ...], dict[str, str]]] = {
    "an unknown queue": (("queues", "replay", "audio.nothing"), {}),
    "a broker that does not answer": (("queues", "replay"), {}),
    "a URL of no broker": (("queues",), {"AMQP_URL": "topsecret"}),
    "a broker in memory": (("queues", "replay"), {"AMQP_URL": "memory://"}),
    "a setting that is no number": (("queues",), {"CLAMOR_LEASE_S": "x"}),
    "a setting that is unknown": (("queues",), {"CLAMOR_LEASE": "3"}),
    "an unknown job": (("schedule", "run", "make_coffee"), {}),
    "an option without a value": (("schedule", "run", "clean_up", "--option", "x"), {}),
    "migrations behind a pooler": (("migrate",), {"CLAMOR_DATABASE_POOLER": "transaction"}),
    "nothing to apply": (("migrate", "--apply"), {}),
    "a role without its command": (("migrate", "--app-role", "clamor_app"), {}),
    "a schema without its command": (("migrate", "--status", "--schema", "public"), {}),
    "patience without a migration": (("migrate", "--status", "--patience", "0"), {}),
    "a URL of no database": (("user", "list"), {"DATABASE_URL": "hidden"}),
    "a role without a name": (("migrate", "--grant", "--app-role", ""), {}),
    "one role for two": (("migrate", "--grant", "--app-role", "clamor_owner"), {}),
    "no model": (("validate", "/nowhere.model", *SERVER), {}),
    "an API that does not answer": (("sessions", "retry", "--given-up", *SERVER), {}),
    "half a calibration": (("process", "a.wav", "--tone-db", "94", *SERVER), {}),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_that_fails_says_what_to_do(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, environment = COMMANDS[name]
    for variable, value in (ENVIRONMENT | environment).items():
        monkeypatch.setenv(variable, value)
    is_migration = arguments[0] == "migrate" and not environment
    assert main(arguments) == (FAILED if is_migration else USAGE_ERROR)
    printed = capsys.readouterr()
    assert printed.err.splitlines() == [f"clamor: {SENTENCES[name]}"]


@pytest.mark.parametrize(
    "command",
    [
        "user list",
        "user create a@example.org",
        "user disable a@example.org",
        "key create a@example.org --name n --scope admin",
        "key list a@example.org",
        "key rotate 0000000000000000",
        "key revoke 0000000000000000",
        "health",
        "restore check",
        "schedule",
        "schedule run health_check",
        "migrate",
        "migrate --to b002",
        "migrate --status",
        "migrate --plan",
        "migrate --check",
        "migrate --down base --lose-data",
        "migrate --grant --apply",
    ],
)
def test_a_database_that_cannot_be_reached_is_named(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for variable, value in ENVIRONMENT.items():
        monkeypatch.setenv(variable, value)
    assert main(command.split()) == USAGE_ERROR
    of_migrations = ", of migrations" if command.startswith("migrate") else ""
    sentence = SENTENCES[f"no database{of_migrations}"]
    assert capsys.readouterr().err.splitlines() == [f"clamor: {sentence}"]


def test_no_sentence_is_without_a_case() -> None:
    unreachable = {"no database", "no database, of migrations"}
    assert SENTENCES.keys() == COMMANDS.keys() | unreachable
