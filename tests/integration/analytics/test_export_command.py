"""`clamor export`."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from rich.console import Console

from actors.analytics import export
from actors.execution.runtime import Runtime
from actors.messaging.messages import ExportSessionData
from services.cli.actions import exports as export_actions
from services.client import Client
from tests.integration.analytics.exported import App, add
from tests.support import accounts
from tests.support.pipeline import handle

pytestmark = pytest.mark.integration


@pytest.fixture
def client(app: App) -> Iterator[Client]:
    """Return the command's client, connected to the application without a server."""
    client = Client("http://clamor", key=accounts.KEY, transport=httpx.WSGITransport(app))
    yield client
    client.close()


def test_the_command_waits_and_fetches(
    client: Client,
    runtime: Runtime,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    session_id = add(runtime, 1.0, 2.0)
    sent = client.export

    def worked(asked: Any) -> Any:
        export = sent(asked)
        handle(runtime, ExportSessionData(export_id=export.id))
        return export

    monkeypatch.setattr(client, "export", worked)
    said = io.StringIO()
    out = tmp_path / "out.selections.txt"

    def run(name: str, **narrowed: Any) -> int:
        return export_actions.run(
            client,
            [session_id],
            format=name,
            narrowed=narrowed,
            out=out,
            bars=Console(file=said),
        )

    assert run("raven", min_confidence=None, noise_types=[]) == 0
    assert f"\n{out}: 2 events, " in capsys.readouterr().out
    assert out.read_text().count("\train\t") == 2
    assert "export raven: 100 %" in said.getvalue()
    whole = out.read_bytes()
    monkeypatch.setattr(export, "MOST_CLIPS", 1)
    assert run("clips") == 1
    assert "more than 1 events" in capsys.readouterr().err
    # The existing file is unchanged, and no other file is left.
    assert [each.name for each in tmp_path.iterdir() if each.is_file()] == [out.name]
    assert out.read_bytes() == whole
