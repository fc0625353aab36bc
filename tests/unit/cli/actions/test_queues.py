"""Display of the queues."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console

from actors.messaging import kinds, messages
from actors.messaging.dead_letters import DeadLetter, Fate
from actors.messaging.messages import DetectSpan
from actors.messaging.queues import Depth
from db.queries.queue_queries import Backlog
from db.settings import Settings, from_environment
from services.cli.actions import queues as queue_actions
from services.cli.actions.queues import QueueLine
from services.http.errors import UserError

DETECT = Depth(nudge=DetectSpan, ready=3, dead=0, consumers=2, unacked=None)


def drawn(*lines: QueueLine) -> list[str]:
    console = Console(width=100, no_color=True)
    with console.capture() as captured:
        console.print(queue_actions.table(lines))
    return captured.get().splitlines()


def cells(row: str) -> list[str]:
    return [cell.strip() for cell in re.split("[│┃]", row)[1:-1]]


def test_a_line_is_made_of_what_is_known() -> None:
    died_at = datetime.now(UTC) - timedelta(minutes=5)
    letter = DeadLetter(
        nudge=None, problem="x", sent_at=died_at - timedelta(hours=1), died_at=died_at, cause="x"
    )
    line = QueueLine.of(replace(DETECT, dead=1), Backlog(held=2, oldest_s=61.0), letter)
    assert (line.queue, line.ready, line.held, line.dead) == ("audio.detect", 3, 2, 1)
    assert line.oldest_s == 61.0
    assert line.oldest_dead_s == pytest.approx(300, abs=30)
    # Put there by hand: it has no time of death, only a sending time.
    by_hand = QueueLine.of(DETECT, None, replace(letter, died_at=None))
    assert by_hand.oldest_dead_s == pytest.approx(3_900, abs=30)
    ahead = QueueLine.of(
        DETECT, None, replace(letter, died_at=datetime.now(UTC) + timedelta(hours=1))
    )
    assert ahead.oldest_dead_s == 0
    unknown = QueueLine.of(DETECT, None, None)
    assert (unknown.held, unknown.oldest_s, unknown.oldest_dead_s) == (None, None, None)


def test_the_table_tells_unacked_only_where_it_is_known() -> None:
    line = QueueLine.of(DETECT, Backlog(held=2, oldest_s=61.0), None)
    rows = [cells(row) for row in drawn(line) if "│" in row or "┃" in row]
    assert rows == [
        ["queue", "ready", "held", "oldest", "dead", "oldest dead", "workers"],
        ["audio.detect", "3", "2", "61 s", "0", "-", "2"],
    ]
    known = QueueLine.of(replace(DETECT, unacked=1), None, None)
    rows = [cells(row) for row in drawn(known, line) if "│" in row or "┃" in row]
    assert rows[0][:4] == ["queue", "ready", "unacked", "held"]
    assert rows[1][:4] == ["audio.detect", "3", "1", "-"]
    assert rows[2][:4] == ["audio.detect", "3", "-", "2"]


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (None, "-"),
        (0.4, "0 s"),
        (119.9, "119 s"),
        (120, "2 min"),
        (7_199, "119 min"),
        (7_200, "2 h"),
        (172_799, "47 h"),
        (604_800, "7 d"),
    ],
)
def test_an_age_is_told_in_its_largest_unit(seconds: float | None, shown: str) -> None:
    assert queue_actions.age(seconds) == shown


def test_the_fates_are_told_in_words() -> None:
    told = queue_actions.told
    assert told(Counter({Fate.REPLAYED: 2})) == "2 replayed"
    both = told(Counter({Fate.UNREADABLE: 1, Fate.REPLAYED: 2}))
    assert both.startswith("2 replayed, 1 left")


def test_the_password_of_the_management_api_is_not_shown() -> None:
    given = {"DATABASE_URL": "postgresql://x", "AMQP_URL": "memory://", "BLOB_URL": "file:///x"}
    settings = from_environment(given | {"CLAMOR_RABBITMQ_API_URL": "http://u:hidden@r:15672"})
    assert settings.rabbitmq_api_url.startswith("http://u:hidden")
    assert "hidden" not in repr(settings)
    assert isinstance(settings, Settings)


def test_names_of_queues_are_taken_as_they_are_shown() -> None:
    everyone = queue_actions.chosen([], prefix="p")
    assert everyone == [kind.message for kind in kinds.KINDS]
    assert queue_actions.chosen(
        ["p.audio.detect.XQ", "audio.detect", "audio.split"], prefix="p"
    ) == [DetectSpan, messages.SplitRecording]
    with pytest.raises(UserError, match=r"'q\.audio\.detect'"):
        queue_actions.chosen(["q.audio.detect"], prefix="p")
