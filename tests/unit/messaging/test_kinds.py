"""The kinds of work: each record is complete, and no other table lists them."""

from __future__ import annotations

import re
import typing
from pathlib import Path

import pytest

from actors import worker
from actors.messaging import kinds, messages
from actors.messaging.kinds import KINDS, WorkKind
from actors.messaging.messages import Nudge
from actors.scheduling import jobs
from db.tables.base import Base, Claimable
from db.tables.job_runs import JobRun

ROOT = Path(__file__).parents[3]
#: The code that all kinds of work share.
SHARED = (
    "actors/*.py",
    "actors/messaging/*.py",
    "actors/execution/*.py",
    "actors/scheduling/*.py",
    "db/queue/*.py",
    "db/queries/queue_queries.py",
    "services/cli/actions/queues.py",
    "services/api/admin/metrics.py",
)

of_each_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.message.queue)


def test_every_message_has_one_kind_an_actor_and_a_queue() -> None:
    named = [kind.message for kind in KINDS]
    every = [each for each in vars(messages).values() if isinstance(each, type)]
    assert set(named) == {each for each in every if issubclass(each, Nudge)} - {Nudge}
    assert len(set(named)) == len(named)
    assert len({nudge.actor for nudge in named}) == len(named)
    assert len({nudge.queue for nudge in named}) == len(named)


def test_every_table_of_work_items_has_a_kind() -> None:
    tables = {mapper.class_ for mapper in Base.registry.mappers}
    assert {kind.rows.table for kind in KINDS} == {
        table for table in tables if issubclass(table, Claimable)
    }


def test_every_kind_has_a_handler_of_its_message() -> None:
    assert set(worker.HANDLERS) == {kind.message for kind in KINDS}
    for message, handler in worker.HANDLERS.items():
        assert typing.get_type_hints(handler)["nudge"] is message


def test_runs_of_periodic_jobs_are_kinds() -> None:
    of_jobs = {kind.message for kind in KINDS if kind.rows.table is JobRun}
    assert of_jobs == {job.nudge for job in jobs.JOBS}


@of_each_kind
def test_a_stalled_row_fills_its_message(kind: WorkKind) -> None:
    assert tuple(kind.rows.names) == kind.message.__struct_fields__
    fields = typing.get_type_hints(kind.message)
    for name, column in kind.rows.names.items():
        assert column.type.python_type is fields[name]
    assert kinds.kind_of(kind.message) is kind


@of_each_kind
def test_a_kind_is_listed_in_three_files(kind: WorkKind) -> None:
    """Its message, its record and its handler. A periodic job has a schedule too."""
    name = re.compile(rf"\b{kind.message.__name__}\b")
    files = {file for pattern in SHARED for file in ROOT.glob(pattern)}
    listing = {str(file.relative_to(ROOT)) for file in files if name.search(file.read_text())}
    listing -= {"actors/scheduling/jobs.py"} if kind.rows.table is JobRun else set()
    assert listing == {
        "actors/messaging/messages.py",
        "actors/messaging/kinds.py",
        "actors/worker.py",
    }
