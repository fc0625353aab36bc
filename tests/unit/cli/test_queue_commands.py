"""Display of the queues, and agreement of the tables that list them."""

from __future__ import annotations

import re
import uuid
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console

from actors.messaging import messages, queues
from actors.messaging.dead_letters import DeadLetter, Fate
from actors.messaging.messages import DetectSpan
from actors.messaging.queues import Depth
from actors.recovery import nudge_for
from actors.scheduling import jobs
from db.queries import queue_queries
from db.queries.batch_queries import BatchWork
from db.queries.model_queries import JobWork
from db.queries.queue_queries import Backlog
from db.queries.webhook_queries import DeliveryWork
from db.queue.claims import Unit, Work
from db.settings import Settings, from_environment
from db.tables.analyses import Analysis
from db.tables.exports import Export
from db.tables.reports import DailyReport
from db.tables.training import TrainingJob, Validation
from services.cli import queue_commands
from services.cli.queue_commands import Line
from services.http.errors import UserError

DETECT = Depth(nudge=DetectSpan, ready=3, dead=0, consumers=2, unacked=None)


def drawn(*lines: Line) -> list[str]:
    console = Console(width=100, no_color=True)
    with console.capture() as captured:
        console.print(queue_commands.table(lines))
    return captured.get().splitlines()


def cells(row: str) -> list[str]:
    return [cell.strip() for cell in re.split("[│┃]", row)[1:-1]]


def test_a_line_is_made_of_what_is_known() -> None:
    died_at = datetime.now(UTC) - timedelta(minutes=5)
    letter = DeadLetter(
        nudge=None, problem="x", sent_at=died_at - timedelta(hours=1), died_at=died_at, cause="x"
    )
    line = Line.of(replace(DETECT, dead=1), Backlog(held=2, oldest_s=61.0), letter)
    assert (line.queue, line.ready, line.held, line.dead) == ("audio.detect", 3, 2, 1)
    assert line.oldest_s == 61.0
    assert line.oldest_dead_s == pytest.approx(300, abs=30)
    # Put there by hand: it has no time of death, only a sending time.
    by_hand = Line.of(DETECT, None, replace(letter, died_at=None))
    assert by_hand.oldest_dead_s == pytest.approx(3_900, abs=30)
    ahead = Line.of(DETECT, None, replace(letter, died_at=datetime.now(UTC) + timedelta(hours=1)))
    assert ahead.oldest_dead_s == 0
    unknown = Line.of(DETECT, None, None)
    assert (unknown.held, unknown.oldest_s, unknown.oldest_dead_s) == (None, None, None)


def test_the_table_tells_unacked_only_where_it_is_known() -> None:
    line = Line.of(DETECT, Backlog(held=2, oldest_s=61.0), None)
    rows = [cells(row) for row in drawn(line) if "│" in row or "┃" in row]
    assert rows == [
        ["queue", "ready", "held", "oldest", "dead", "oldest dead", "workers"],
        ["audio.detect", "3", "2", "61 s", "0", "-", "2"],
    ]
    known = Line.of(replace(DETECT, unacked=1), None, None)
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
    assert queue_commands.age(seconds) == shown


def test_the_fates_are_told_in_words() -> None:
    told = queue_commands.told
    assert told(Counter({Fate.REPLAYED: 2})) == "2 replayed"
    both = told(Counter({Fate.UNREADABLE: 1, Fate.REPLAYED: 2}))
    assert both == "2 replayed, 1 left in place, since this release cannot read them"


def test_the_rows_of_a_queue_are_those_that_recovery_nudges_it_for() -> None:
    some = uuid.uuid4()
    rows: dict[str, Unit] = {
        state: Work(session_id=some, state=state)
        for state in ("queued", "splitting", "aggregating")
    }
    rows["span"] = Work(session_id=some, span_index=0, state="pending")
    rows["batch"] = BatchWork(id=some, state="expanding")
    rows["webhook"] = DeliveryWork(webhook_id=some)
    rows["training"] = JobWork(job=TrainingJob, id=some)
    rows["validation"] = JobWork(job=Validation, id=some)
    rows["export"] = JobWork(job=Export, id=some)
    rows["analysis"] = JobWork(job=Analysis, id=some)
    rows["report"] = JobWork(job=DailyReport, id=some)
    assert {type(nudge_for(row)): kind for kind, row in rows.items()} == queues.ROWS
    assert set(rows) == set(queue_queries.KINDS)
    # Runs of periodic jobs are few and have a separate list.
    assert set(messages.ALL) - set(queues.ROWS) == {job.nudge for job in jobs.JOBS}


def test_the_password_of_the_management_api_is_not_shown() -> None:
    given = {"DATABASE_URL": "x", "AMQP_URL": "memory://", "BLOB_URL": "file:///x"}
    settings = from_environment(given | {"CLAMOR_RABBITMQ_API_URL": "http://u:hidden@r:15672"})
    assert settings.rabbitmq_api_url.startswith("http://u:hidden")
    assert "hidden" not in repr(settings)
    assert isinstance(settings, Settings)


def test_names_of_queues_are_taken_as_they_are_shown() -> None:
    everyone = queue_commands.chosen([], prefix="p")
    assert everyone == list(messages.ALL)
    assert queue_commands.chosen(
        ["p.audio.detect.XQ", "audio.detect", "audio.split"], prefix="p"
    ) == [DetectSpan, messages.SplitRecording]
    with pytest.raises(UserError, match=r"^no such queue: 'q\.audio\.detect'"):
        queue_commands.chosen(["q.audio.detect"], prefix="p")
