"""`clamor report`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from actors.execution.runtime import Runtime
from actors.recovery import nudge_for, take_stalled
from services.cli import arguments, report_command
from services.client import Client
from tests.integration.analytics.reported import session
from tests.support import accounts
from tests.support.accounts import ADMIN_KEY
from tests.support.api import App
from tests.support.pipeline import handle

pytestmark = pytest.mark.integration


def test_the_command_asks_and_shows(
    app: App,
    runtime: Runtime,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    session(runtime, "2026-10-25T10:00Z", events={"dog_bark": [0]})
    through = accounts.client(app)

    def ask(_client: Client, method: str, path: str, **options: Any) -> Any:
        if method == "GET":
            for work in (nudge_for(each) for each in _quiet(runtime)):
                handle(runtime, work)
        return through.simulate_request(method, path, **options)

    monkeypatch.setattr(Client, "_call", ask)
    file = tmp_path / "report.html"
    given = arguments.parser().parse_args(
        ["report", "2026-10-25", "--time-zone", "Europe/Berlin", "--html", str(file)]
    )
    client = Client("http://nowhere")
    done = report_command.run(
        client,
        given.day,
        time_zone=given.time_zone,
        html=given.html,
        all_users=given.all_users,
        as_json=given.json,
        bars=Console(stderr=True),
    )
    assert done == 0
    shown = capsys.readouterr()
    assert "dog_bark" in shown.out
    assert "this key's user; --all-users" in " ".join(shown.err.split())
    through = accounts.client(app, ADMIN_KEY)
    done = report_command.run(
        client,
        given.day,
        time_zone=given.time_zone,
        html=None,
        all_users=True,
        as_json=True,
        bars=Console(stderr=True),
    )
    shown = capsys.readouterr()
    assert done == 0
    assert "the sessions of all users" in " ".join(shown.err.split())
    assert json.loads(shown.out.splitlines()[-1])["day"] == "2026-10-25"
    assert file.read_bytes().startswith(b"<!doctype html>")


def _quiet(runtime: Runtime) -> list[Any]:
    with runtime.store.transaction() as db:
        return take_stalled(db, quiet_s=0, limit=10)
