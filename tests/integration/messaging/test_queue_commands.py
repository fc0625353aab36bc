"""`clamor queues`, and the hourly check."""

from __future__ import annotations

import json
import uuid
from dataclasses import replace
from typing import Any

import pytest
import structlog
import structlog.testing

from actors.execution.runtime import Runtime
from actors.messaging import broker, messages, queues
from actors.messaging.queues import BrokerUnavailable
from db.settings import Settings
from services.cli.main import main
from tests.integration.messaging.dead_letters import UNREADABLE, bury, span, url_of
from tests.support.clock import ask, findings

pytestmark = pytest.mark.integration


def test_the_command_shows_and_replays(
    rabbit: Any, prefix: str, environment: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["queues", "--json"]) == 0
    assert {line["dead"] for line in json.loads(capsys.readouterr().out)} == {0}
    sent = span(4)
    bury(rabbit, prefix, UNREADABLE, sent)

    assert main(["queues", "--json"]) == 1
    [line] = [line for line in json.loads(capsys.readouterr().out) if line["dead"]]
    assert 0 <= line.pop("oldest_dead_s") < 60
    assert line == {
        "queue": "audio.detect",
        "ready": 0,
        "unacked": None,
        "held": 0,
        "dead": 2,
        "consumers": 0,
        "oldest_s": None,
    }
    assert main(["queues"]) == 1
    assert "audio.detect" in capsys.readouterr().out

    assert main(["queues", "show", f"{prefix}.audio.detect", "--json"]) == 0
    unreadable, readable = json.loads(capsys.readouterr().out)
    assert "session_id" in unreadable["problem"]
    assert readable["says"] == sent.payload()
    assert main(["queues", "show", "audio.detect"]) == 0
    shown = capsys.readouterr().out
    assert "nobody" not in shown
    assert "span_index=4" in shown

    assert main(["queues", "replay", "audio.split"]) == 0
    assert "no dead letters" in capsys.readouterr().out
    assert main(["queues", "replay", "audio.detect"]) == 1
    outcome = capsys.readouterr().out
    assert "audio.detect: 1 replayed" in outcome
    assert "1 left" in outcome
    assert main(["queues", "replay", "--drop-unreadable"]) == 0
    assert main(["queues"]) == 0
    assert main(["queues", "replay", "audio.nothing"]) == 2
    assert "'audio.nothing'" in capsys.readouterr().err


def test_a_database_that_is_away_leaves_what_the_broker_knows(
    rabbit: Any,
    prefix: str,
    environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    bury(rabbit, prefix, span(0))
    monkeypatch.setenv("DATABASE_URL", "postgresql://postgres@127.0.0.1:9/none")
    assert main(["queues", "--json"]) == 1
    told = capsys.readouterr()
    assert "database" in told.err
    [line] = [line for line in json.loads(told.out) if line["dead"]]
    assert (line["held"], line["oldest_s"]) == (None, None)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("amqp://u:topsecret@127.0.0.1:9/", "127.0.0.1:9"),
        ("amqp://u:topsecret@nowhere.invalid/", "nowhere.invalid:5672"),
        ("amqp://u:top/secret@127.0.0.1/", "AMQP_URL"),
        ("topsecret", "AMQP_URL"),
        ("memory://", "/metrics"),
    ],
)
def test_a_broker_that_cannot_be_asked_is_told_without_its_password(
    environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    url: str,
    reason: str,
) -> None:
    monkeypatch.setenv("AMQP_URL", url)
    for command in (["queues"], ["queues", "replay"], ["queues", "show", "audio.detect"]):
        assert main(command) == 2
        told = capsys.readouterr()
        assert reason in told.err
        assert "secret" not in told.out + told.err


def test_a_wrong_password_and_a_wrong_virtual_host_are_told_apart(
    rabbit: Any, rabbit_settings: Settings
) -> None:
    given = rabbit.parameters
    for url, reason in (
        (f"amqp://nobody:wrong@{given.host}:{given.port}", "the user or the password"),
        (f"{url_of(rabbit)}/{uuid.uuid4()}", "the virtual host"),
    ):
        other = broker.setup(replace(rabbit_settings, amqp_url=url))
        with pytest.raises(BrokerUnavailable, match=reason):
            queues.depths(other, prefix="x")


def test_the_hourly_look_warns_of_dead_letters(
    rabbit: Any, prefix: str, rabbit_settings: Settings
) -> None:
    runtime = Runtime(rabbit_settings, rabbit)
    with structlog.testing.capture_logs() as quiet:
        well = findings(ask(runtime, messages.CheckHealth()))
    bury(rabbit, prefix, UNREADABLE)
    with structlog.testing.capture_logs() as warned:
        dead = findings(ask(runtime, messages.CheckHealth()))
    nobody = replace(rabbit_settings, amqp_url="amqp://guest:guest@127.0.0.1:9")
    cut_off = Runtime(nobody, broker.setup(nobody))
    with structlog.testing.capture_logs() as away:
        unwell = ask(cut_off, messages.CheckHealth()).result
    cut_off.close()
    runtime.close()
    assert (well["healthy"], well["checks"]["broker"]["dead_letters"]) == (True, {})
    assert not [each for each in quiet if each["event"] == "dead_letters"]
    assert (dead["healthy"], dead["checks"]["broker"]["dead_letters"]) == (
        True,
        {"audio.detect": 1},
    )
    [line] = [each for each in warned if each["event"] == "dead_letters"]
    assert (line["log_level"], line["queues"]) == ("warning", {"audio.detect": 1})
    assert unwell is not None
    faults: Any = unwell["faults"]
    assert faults.keys() == {"broker"}
    assert "127.0.0.1:9" in faults["broker"]
    [line] = [each for each in away if each["event"] == "unhealthy"]
    assert (line["log_level"], line["faults"]) == ("error", faults)
