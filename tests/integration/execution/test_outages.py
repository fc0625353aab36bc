"""Failures of the installation use up no attempts: its database, its resolver, its disks."""

from __future__ import annotations

import errno
import socket
import uuid
from collections.abc import Iterator
from dataclasses import replace

import psycopg
import pytest
import sqlalchemy.exc
from dramatiq.brokers.stub import StubBroker

from actors.execution.runtime import Runtime
from actors.messaging.messages import ProcessAudioFile
from actors.outbound import client
from actors.outbound.client import Outbound
from actors.recovery import Recovery
from db.blobs.keys import recording_key
from db.queries import session_queries
from db.queue.claims import SessionWork
from db.settings import Settings
from tests.integration.audio.test_fetch import DEMO, make_due
from tests.integration.execution.test_run_log import due, queued, raising
from tests.support import accounts, web
from tests.support.cluster import eventually
from tests.support.pipeline import add, handle, run_to_the_end, session, work_of
from tests.support.postgres_proxy import PostgresProxy, postgres_proxy
from tests.support.web import LOOPBACK

pytestmark = pytest.mark.integration

#: More than the attempts allowed for any other reason.
TIMES = 7


@pytest.fixture
def proxy(database_url: str) -> Iterator[PostgresProxy]:
    with postgres_proxy(database_url) as made:
        yield made


@pytest.fixture
def behind(
    memory_settings: Settings, memory: StubBroker, proxy: PostgresProxy
) -> Iterator[Runtime]:
    """A worker that reaches Postgres through the proxy."""
    made = Runtime(replace(memory_settings, database_url=proxy.url, lease_s=60.0), memory)
    yield made
    made.close()


def counted(runtime: Runtime, session_id: uuid.UUID) -> int:
    work = work_of(runtime, session_id)
    return work.attempt - work.uncounted


def test_a_run_that_could_not_write_its_failure_is_given_back_later(
    behind: Runtime, proxy: PostgresProxy
) -> None:
    session_id, recovery = add(behind, DEMO), Recovery(behind)

    def fails_with_postgres(_lease: object) -> None:
        proxy.cut()
        raise OSError(errno.EIO, "any")

    for _ in range(TIMES):
        queued(behind, fails_with_postgres, session_id)  # type: ignore[arg-type]
        # No message waits: recovery sends none for a row that one in the queue may stand for.
        behind.publisher.broker.flush_all()
        with pytest.raises(sqlalchemy.exc.OperationalError):
            recovery.round()
        proxy.mend()
        # At once, although the lease lasts for another minute.
        nudges = eventually(recovery.round, timeout_s=10, what="the nudge")
        assert nudges == [ProcessAudioFile(session_id=session_id)]
        assert counted(behind, session_id) == 0
    assert run_to_the_end(behind, session_id).state == "completed"


def test_a_claim_that_another_worker_has_taken_since_is_not_given_back(
    behind: Runtime, runtime: Runtime, proxy: PostgresProxy
) -> None:
    session_id = add(behind, DEMO)

    def fails_with_postgres(_lease: object) -> None:
        proxy.cut()
        raise OSError(errno.EIO, "any")

    queued(behind, fails_with_postgres, session_id)  # type: ignore[arg-type]
    due(runtime, session_id)
    proxy.mend()

    def meanwhile(_lease: object) -> None:
        behind.unreturned.give_back(behind.store)
        raise OSError(errno.EIO, "any")

    queued(runtime, meanwhile, session_id)  # type: ignore[arg-type]
    assert (work_of(runtime, session_id).attempt, counted(runtime, session_id)) == (2, 1)
    # Its end is not undone, either.
    due(runtime, session_id)
    assert run_to_the_end(runtime, session_id).state == "completed"
    behind.unreturned.add(SessionWork(session_id=session_id, state="queued"), attempt=1)
    behind.unreturned.give_back(behind.store)
    assert session(runtime, session_id).state == "completed"


def database_error(sqlstate: type[psycopg.Error]) -> sqlalchemy.exc.DBAPIError:
    return sqlalchemy.exc.OperationalError("SELECT", {}, sqlstate("any"))


@pytest.mark.parametrize(
    "error",
    [
        database_error(psycopg.OperationalError),
        database_error(psycopg.errors.AdminShutdown),
        database_error(psycopg.errors.DiskFull),
        database_error(psycopg.errors.TooManyConnections),
        sqlalchemy.exc.TimeoutError("any"),
        OSError(errno.ENOSPC, "any"),
        OSError(errno.EDQUOT, "any"),
    ],
    ids=lambda error: f"{type(getattr(error, 'orig', error)).__name__}",
)
def test_an_outage_uses_up_no_attempts(runtime: Runtime, error: Exception) -> None:
    session_id = add(runtime, DEMO)
    for _ in range(TIMES):
        queued(runtime, raising(error), session_id)
        due(runtime, session_id)
    work = work_of(runtime, session_id)
    assert (work.attempt, work.uncounted) == (TIMES, TIMES)
    assert run_to_the_end(runtime, session_id).state == "completed"


@pytest.mark.parametrize(
    "error",
    [
        # By its own statements, which the next try repeats.
        database_error(psycopg.errors.QueryCanceled),
        database_error(psycopg.errors.DeadlockDetected),
        database_error(psycopg.errors.ProgramLimitExceeded),
        OSError(errno.EIO, "any"),
        OSError(errno.EFBIG, "any"),
    ],
    ids=lambda error: f"{type(getattr(error, 'orig', error)).__name__}",
)
def test_a_fault_of_the_work_does(runtime: Runtime, error: Exception) -> None:
    session_id = add(runtime, DEMO)
    queued(runtime, raising(error), session_id)
    assert counted(runtime, session_id) == 1


# --- names that do not resolve -----------------------------------------------------------------


class Resolver:
    """Resolves every name to this machine, unless it fails."""

    def __init__(self) -> None:
        self.fails: set[str] | None = set()
        self.asked: list[str] = []

    def __call__(self, host: str, _port: int) -> list[str]:
        self.asked.append(host)
        if self.fails is None or host in self.fails:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return ["127.0.0.1"]


def test_a_recording_is_fetched_once_names_resolve_again(
    memory_settings: Settings, memory: StubBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = Runtime(replace(memory_settings, private_networks=LOOPBACK), memory)
    resolver = Resolver()
    runtime.outbound = Outbound(LOOPBACK, resolve=resolver)
    with web.serving() as site:
        site.pages["/street.flac"] = lambda request: request.answer(DEMO)
        url = site.url("/street.flac", host="recorder.example")
        session_id = uuid.uuid4()
        with runtime.store.transaction() as tx:
            session_queries.add_session(
                tx,
                id=session_id,
                user_id=accounts.TEAM,
                file_name="street.flac",
                recording_key=recording_key(session_id),
                source_url=url,
            )
        resolver.fails = None
        for _ in range(TIMES):
            handle(runtime, ProcessAudioFile(session_id=session_id))
            make_due(runtime, session_id)
        work = work_of(runtime, session_id)
        assert (work.attempt, work.uncounted) == (TIMES, TIMES)
        assert work.last_error == "no name can be resolved at the moment"
        # Most tries do not wait for a resolver that does not answer.
        assert resolver.asked == ["recorder.example", client.EVERLASTING_NAME]
        # One name that fails alone is a fault of its owner.
        monkeypatch.setattr(client, "RESOLVER_PAUSE_S", 0.0)
        runtime.outbound = Outbound(LOOPBACK, resolve=resolver)
        resolver.fails = {"recorder.example"}
        handle(runtime, ProcessAudioFile(session_id=session_id))
        assert counted(runtime, session_id) == 1
        resolver.fails = set()
        make_due(runtime, session_id)
        assert run_to_the_end(runtime, session_id).state == "completed"
    runtime.close()
