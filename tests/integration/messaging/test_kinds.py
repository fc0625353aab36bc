"""A kind of work that only this test has runs by its message, its record and its handler."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from functools import partial
from typing import Any, ClassVar

import pytest
from sqlalchemy import MetaData, insert
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from actors import worker
from actors.execution import runner
from actors.execution.lease import Lease
from actors.execution.runtime import Runtime
from actors.messaging import broker, kinds, queues
from actors.messaging.kinds import WorkKind
from actors.messaging.messages import Nudge
from actors.recovery import Recovery
from db.queries import queue_queries
from db.queries.model_queries import JobWork
from db.queue import claims
from db.settings import Settings
from db.store import Store
from db.tables.base import Base, JobRow
from services.cli.main import main
from tests.support.cluster import eventually

pytestmark = pytest.mark.integration


class MadeUpBase(DeclarativeBase):
    """Separate from the tables of the product, which are compared with the migrations."""

    metadata = MetaData()
    type_annotation_map = Base.type_annotation_map


class Errand(JobRow, MadeUpBase):
    """The table of a made-up kind of work."""

    __tablename__ = "errands"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)


class RunErrand(Nudge, frozen=True, kw_only=True):
    """Its message."""

    actor: ClassVar[str] = "run_errand"
    queue: ClassVar[str] = "errands.run"

    errand_id: uuid.UUID


def run_errand(runtime: Runtime, nudge: RunErrand) -> None:
    """Its handler."""

    def task_of(work: JobWork) -> runner.Task:
        def perform(lease: Lease) -> runner.Result:
            assert lease.deadline_s == 7.0
            return runner.Result(runner.move_on(work, to="completed", values={"percent": 100}))

        return runner.Task(name="errand", work=work, perform=perform, give_up=runner.fail(work))

    take = partial(claims.this, JobWork(job=Errand, id=nudge.errand_id))
    runner.run(runtime, nudge, take, task_of)


@pytest.fixture(autouse=True)
def _made_up_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = WorkKind(
        RunErrand, deadline_s=7.0, rows=queue_queries.pending(Errand, errand_id=Errand.id)
    )
    handlers: dict[type[Nudge], Any] = worker.HANDLERS | {RunErrand: run_errand}
    monkeypatch.setattr(kinds, "KINDS", (*kinds.KINDS, kind))
    monkeypatch.setattr(worker, "HANDLERS", handlers)


@pytest.fixture
def runtime(rabbit_settings: Settings) -> Iterator[Runtime]:
    """A worker over RabbitMQ, with every actor."""
    consuming = broker.setup(rabbit_settings)
    runtime = Runtime(rabbit_settings, consuming)
    worker.declare(consuming, runtime)
    yield runtime
    runtime.close()
    consuming.close()


def errand(store: Store) -> uuid.UUID:
    """Add a work item whose message was lost a minute ago."""
    MadeUpBase.metadata.create_all(store.engine)
    errand_id = uuid.uuid4()
    with store.transaction() as tx:
        long_ago = claims.seconds_ago(60)
        tx.execute(
            insert(Errand).values(
                id=errand_id, state="pending", due_at=long_ago, nudged_at=long_ago
            )
        )
    return errand_id


def test_a_made_up_kind_is_claimed_handled_recovered_and_shown(
    runtime: Runtime,
    rabbit_settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("DATABASE_URL", rabbit_settings.database_url)
    monkeypatch.setenv("AMQP_URL", rabbit_settings.amqp_url)
    monkeypatch.setenv("BLOB_URL", rabbit_settings.blob_url)
    monkeypatch.setenv("CLAMOR_QUEUE_PREFIX", rabbit_settings.queue_prefix)

    def shown() -> dict[str, Any]:
        assert main(["queues", "--json"]) == 0
        lines = json.loads(capsys.readouterr().out.splitlines()[-1])
        [line] = [each for each in lines if each["queue"] == "errands.run"]
        return dict(line)

    def backlog() -> queue_queries.Backlog:
        with runtime.store.transaction() as tx:
            return kinds.backlogs(tx)["errands.run"]

    errand_id = errand(runtime.store)
    nudge = RunErrand(errand_id=errand_id)
    oldest_s = backlog().oldest_s
    assert oldest_s is not None
    assert 60 <= oldest_s < 600
    assert Recovery(runtime).round() == [nudge]
    assert Recovery(runtime).round() == []
    rabbit = runtime.publisher.broker

    def is_sent() -> bool:
        depths = queues.depths(rabbit, prefix=rabbit_settings.queue_prefix)
        return {depth.nudge: depth.ready for depth in depths}[RunErrand] == 1

    eventually(is_sent, timeout_s=20, what="the nudge in its queue")
    line = shown()
    assert (line["ready"], line["dead"], line["held"]) == (1, 0, 0)
    assert line["oldest_s"] >= 60

    with runtime.store.transaction() as tx:
        work = JobWork(job=Errand, id=errand_id)
        claim = claims.this(work, tx, lease_s=60)
    assert claim is not None
    assert (backlog().held, shown()["held"], shown()["oldest_s"]) == (1, 1, None)
    with runtime.store.transaction() as tx:
        assert claims.retry_later(tx, work, attempt=claim.attempt, delay_s=0, error="x")

    rabbit.get_actor("run_errand")(**nudge.payload())
    with runtime.store.transaction() as tx:
        row = tx.get(Errand, errand_id)
    assert row is not None
    assert (row.state, row.percent, row.attempt) == ("completed", 100, 0)
    assert backlog() == queue_queries.Backlog()
