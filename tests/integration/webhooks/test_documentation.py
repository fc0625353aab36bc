"""The receiver and the event that docs/webhooks.md shows."""

from __future__ import annotations

import json
import threading
from http.server import HTTPServer
from pathlib import Path
from typing import Any

import pytest

from actors.execution.runtime import Runtime
from actors.webhooks import deliver as notify
from tests.integration.webhooks.receivers import cancelled, deliveries, pass_time, path_of, tell
from tests.support.api import Api

pytestmark = pytest.mark.integration

PAGE = (Path(__file__).parents[3] / "docs" / "webhooks.md").read_text()


def shown_as(language: str) -> str:
    """Return the first code block of docs/webhooks.md in a language."""
    return PAGE.partition(f"```{language}\n")[2].partition("```")[0]


def test_the_receiver_of_the_page_receives(
    api: Api, runtime: Runtime, capsys: pytest.CaptureFixture[str]
) -> None:
    receiver: dict[str, Any] = {"__name__": "receiver"}
    exec(shown_as("python"), receiver)  # noqa: S102  (it is our own page)
    server = HTTPServer(("127.0.0.1", 0), receiver["Receiver"])
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        url = f"http://127.0.0.1:{server.server_address[1]}/"
        hook = api.simulate_post("/v1/webhooks", json={"url": url}).json
        receiver["SECRET"] = "whsec_c29tZWJvZHkgZWxzZQ=="
        session_id = cancelled(runtime)
        tell(runtime)
        assert deliveries(api, hook)[0]["log"][0]["status"] == 400
        receiver["SECRET"] = hook["secret"]
        for _ in range(2):
            pass_time(runtime)
            tell(runtime)
            [delivery] = deliveries(api, hook)
            assert delivery["state"] == "delivered"
            api.simulate_post(path_of(hook, "deliveries", delivery["id"], "replay"))
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    line = f"session.cancelled /v1/sessions/{session_id}\n"
    assert capsys.readouterr().out.count(line) == 1


def test_the_event_of_the_page_is_that_of_the_code() -> None:
    shown = json.loads(shown_as("json"))
    assert set(shown) == set(notify.WebhookEvent.__struct_fields__)
    assert set(shown["data"]) == set(notify.EndedSession.__struct_fields__)
