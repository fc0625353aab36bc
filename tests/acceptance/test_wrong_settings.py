"""A process with wrong settings ends at once with one line for each fault, and code 2."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from tests.support import accounts

pytestmark = pytest.mark.acceptance

#: Nothing listens there: a process that connects before it reads its settings would wait.
RIGHT = {
    "DATABASE_URL": "postgresql://postgres:hidden@127.0.0.1:9/none",
    "AMQP_URL": "amqp://guest:hidden@127.0.0.1:9/",
    "BLOB_URL": "file:///tmp/clamor-not-used",
    "CLAMOR_KEY_PEPPER": accounts.PEPPER,
    "CLAMOR_SECRET_KEYS": accounts.SECRET_KEYS[0],
}
WRONG = {
    "DATABASE_URL": "mysql://u:hidden@127.0.0.1/x",
    "AMQP_URL": "http://hidden",
    "BLOB_URL": "s4://hidden",
    "CLAMOR_KEY_PEPPER": "hidden",
    "CLAMOR_LOG_LEVEL": "hidden",
    "CLAMOR_LEASE": "hidden",
}
LINES = (
    "clamor: CLAMOR_LEASE is not a setting (did you mean CLAMOR_LEASE_S?)",
    "clamor: DATABASE_URL cannot be read: it must be postgresql://",
    "clamor: AMQP_URL cannot be read: it must be amqp://",
    "clamor: BLOB_URL cannot be read: it must be file://",
    "clamor: CLAMOR_KEY_PEPPER cannot be read: it must have at least 32 characters",
    "clamor: CLAMOR_LOG_LEVEL cannot be read: it must be one of DEBUG",
)
#: A migration reads the settings of its database alone.
OF_MIGRATIONS = LINES[:2]
FOLDER = {"BLOB_URL": "file:///dev/null/x"}


def run(command: str, changed: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a command with changed settings to its end."""
    return subprocess.run(
        [sys.executable, "-m", "services.cli", *command.split()],
        env={**os.environ, **RIGHT, **changed},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("command", "changed", "expected"),
    [
        ("serve --port 9", WRONG, LINES),
        ("worker", WRONG, LINES),
        ("scheduler", WRONG, LINES),
        ("config check", WRONG, LINES),
        ("migrate", WRONG, OF_MIGRATIONS),
        ("serve --port 9", FOLDER, ["clamor: BLOB_URL cannot be used: Not a directory"]),
        ("worker", FOLDER, ["clamor: BLOB_URL cannot be used: Not a directory"]),
        ("serve --port 9", {"CLAMOR_KEY_PEPPER": ""}, ["clamor: CLAMOR_KEY_PEPPER is not set"]),
        ("worker", {"CLAMOR_SECRET_KEYS": ""}, ["clamor: CLAMOR_SECRET_KEYS is not set"]),
    ],
)
def test_wrong_settings_end_a_process_with_a_line_for_each(
    command: str, changed: dict[str, str], expected: list[str]
) -> None:
    ended = run(command, changed)
    lines = ended.stderr.splitlines()
    assert (ended.returncode, len(lines)) == (2, len(expected)), ended.stderr
    for line, beginning in zip(lines, expected, strict=True):
        assert line.startswith(beginning)
    assert "hidden" not in ended.stderr + ended.stdout


def test_an_address_of_probes_that_is_in_use_ends_a_process_with_a_line() -> None:
    with socket.create_server(("127.0.0.1", 0), reuse_port=True) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        ended = run("scheduler", {"CLAMOR_PROBE_ADDRESS": address})
    assert ended.returncode == 2
    [line] = ended.stderr.splitlines()
    assert line.startswith("clamor: CLAMOR_PROBE_ADDRESS cannot be used: Address already in use")
