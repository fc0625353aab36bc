"""`clamor report`."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest
from rich.console import Console

from actors.execution.runtime import Runtime
from actors.messaging import messages
from actors.recovery import take_stalled
from services.cli import main as cli
from services.cli.actions import reports as report_actions
from services.client import Client
from tests.integration.analytics.reported import session
from tests.support import accounts
from tests.support.accounts import ADMIN_KEY
from tests.support.api import App
from tests.support.pipeline import handle

pytestmark = pytest.mark.integration


def test_the_command_asks_and_shows(
    app: App, runtime: Runtime, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    session(runtime, "2026-10-25T10:00Z", events={"dog_bark": [0]})

    class Working(httpx.WSGITransport):
        """The application, whose workers finish before it is asked for a report."""

        def handle_request(self, request: httpx.Request) -> httpx.Response:
            if request.method == "GET":
                for nudge in _stalled(runtime):
                    handle(runtime, nudge)
            return super().handle_request(request)

    file = tmp_path / "report.html"
    given = cli.parser().parse_args(
        ["report", "2026-10-25", "--time-zone", "Europe/Berlin", "--html", str(file)]
    )
    client = Client("http://nowhere", key=accounts.KEY, transport=Working(app))
    done = report_actions.run(
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
    assert "--all-users" in shown.err
    client = Client("http://nowhere", key=ADMIN_KEY, transport=Working(app))
    done = report_actions.run(
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
    assert "all users" in " ".join(shown.err.split())
    assert json.loads(shown.out.splitlines()[-1])["day"] == "2026-10-25"
    assert file.read_bytes().startswith(b"<!doctype html>")


def _stalled(runtime: Runtime) -> list[messages.Nudge]:
    with runtime.store.transaction() as tx:
        return take_stalled(tx, unnudged_s=0, limit=10)
