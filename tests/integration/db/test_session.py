"""No connection waits for Postgres forever."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import psycopg.errors
import pytest
import sqlalchemy.exc
from sqlalchemy import (
    Column,
    Connection,
    Integer,
    MetaData,
    Table,
    Text,
    bindparam,
    cast,
    false,
    func,
    insert,
    literal,
    literal_column,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB

import db as store_package
from db import store as session
from db.connection_options import ConnectionOptions
from db.engine import make_engine
from db.migration.execution import LOCK_TIMEOUTS_MS, STATEMENT_TIMEOUT_MS, Running
from db.settings import from_environment
from db.statements import CompiledStatement, NothingChanged, changed_one, sent_together
from db.store import CompiledQuery, Store
from tests.support.cluster import eventually

pytestmark = pytest.mark.integration


def timeouts(connection: Connection) -> dict[str, int]:
    names = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
    rows = connection.execute(
        text("SELECT name, setting::int FROM pg_settings WHERE name = ANY(:names)"),
        {"names": list(names)},
    )
    return {name: setting for name, setting in rows}  # noqa: C416


def test_a_statement_of_the_store_gives_way(store: Store) -> None:
    with store.engine.connect() as connection:
        assert timeouts(connection) == {
            "statement_timeout": 30_000,
            "lock_timeout": 10_000,
            "idle_in_transaction_session_timeout": 60_000,
        }


def test_the_timeouts_of_the_settings_are_in_force(database_url: str) -> None:
    settings = from_environment(
        {
            "DATABASE_URL": database_url,
            "AMQP_URL": "memory://",
            "BLOB_URL": "file:///unused",
            "CLAMOR_STATEMENT_TIMEOUT_S": "3.5",
            "CLAMOR_LOCK_TIMEOUT_S": "2",
            "CLAMOR_IDLE_IN_TRANSACTION_TIMEOUT_S": "50",
            "CLAMOR_POOL_TIMEOUT_S": "0.1",
        }
    )
    own = Store(database_url, pool_size=1, options=settings.connection_options("clamor-test"))
    with own.engine.connect() as connection:
        assert timeouts(connection) == {
            "statement_timeout": 3_500,
            "lock_timeout": 2_000,
            "idle_in_transaction_session_timeout": 50_000,
        }
        name = connection.execute(text("SHOW application_name")).scalar_one()
        assert name == "clamor-test"
        with pytest.raises(sqlalchemy.exc.TimeoutError, match=r"timeout 0\.10"):
            own.engine.connect()
    own.close()


def test_the_options_of_the_url_are_kept(database_url: str) -> None:
    own = Store(f"{database_url}?options=-csearch_path%3Delsewhere", pool_size=1)
    with own.reading() as tx:
        assert tx.execute(text("SHOW search_path")).scalar_one() == "elsewhere"
        assert tx.execute(text("SHOW lock_timeout")).scalar_one() == "10s"
    own.close()


def test_a_stuck_statement_is_ended(database_url: str) -> None:
    engine = make_engine(database_url, ConnectionOptions(statement_timeout_s=0.2))
    with (
        engine.connect() as connection,
        pytest.raises(sqlalchemy.exc.OperationalError) as failure,
    ):
        connection.execute(text("SELECT pg_sleep(60)"))
    engine.dispose()
    assert isinstance(failure.value.orig, psycopg.errors.QueryCanceled)


def test_brief_steps_of_migrations_give_way_and_long_ones_do_not(database_url: str) -> None:
    engine = make_engine(database_url)
    with engine.connect() as connection:
        running = Running(connection)
        brief = timeouts(connection)
        connection.rollback()
        with running.timeouts(0, 0):
            long = timeouts(connection)
            connection.rollback()
        assert timeouts(connection) == brief
    engine.dispose()
    assert brief["lock_timeout"] == LOCK_TIMEOUTS_MS[0]
    assert brief["statement_timeout"] == STATEMENT_TIMEOUT_MS
    assert (long["lock_timeout"], long["statement_timeout"]) == (0, 0)


def test_engines_are_made_in_one_place() -> None:
    root = Path(store_package.__file__).parents[1]
    making = [
        path.relative_to(root).as_posix()
        for package in ("db", "actors", "services")
        for path in (root / package).rglob("*.py")
        if re.search(r"create_engine\(|psycopg\.connect\(", path.read_text())
    ]
    assert making == ["db/engine.py"]


def backend(store: Store) -> int:
    with store.reading() as tx:
        return int(tx.execute(text("SELECT pg_backend_pid()")).scalar_one())


def end(pid: int, *, by: Store) -> None:
    """Terminate a connection's backend and wait until it is gone."""
    with by.transaction() as tx:
        tx.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})

    def is_gone() -> bool:
        with by.transaction() as tx:
            found = text("SELECT count(*) FROM pg_stat_activity WHERE pid = :pid")
            return bool(tx.execute(found, {"pid": pid}).scalar_one() == 0)

    eventually(is_gone, what="the end of a connection")


class X(NamedTuple):
    """A row of one column."""

    x: int


def asked(store: Store, question: CompiledQuery[X]) -> int:
    answer = store.ask(question)
    assert answer is not None
    return answer.x


def test_a_connection_that_was_ended_is_not_used(store: Store, database_url: str) -> None:
    own = Store(database_url, pool_size=1)
    question = CompiledQuery(select(func.pg_backend_pid().label("x")), X)
    uses: list[Callable[[], int]] = [
        lambda: backend(own),
        lambda: asked(own, question),
        lambda: asked(own, question),
        lambda: backend(own),
    ]
    for use in uses:
        ended = backend(own)
        end(ended, by=store)
        assert use() != ended
    own.close()


def test_a_connection_that_idled_is_asked_whether_it_answers(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = Store(database_url, pool_size=1)
    first = backend(own)
    asked = []

    def vanished(connection: object) -> bool:
        asked.append(connection)
        raise psycopg.OperationalError

    monkeypatch.setattr(own.engine.dialect, "do_ping", vanished)
    assert backend(own) == first
    assert not asked
    monkeypatch.setattr(session, "IDLE_S", 0.0)
    assert backend(own) != first
    assert len(asked) == 1
    own.close()


def test_what_reads_begins_no_transaction_and_what_writes_does(database_url: str) -> None:
    own = Store(database_url, pool_size=1)
    in_progress = text("SELECT now() <> statement_timestamp() FROM pg_sleep(0.001)")
    with own.transaction() as tx:
        tx.execute(text("CREATE TABLE kept (x int)"))
    for _ in range(2):
        with pytest.raises(sqlalchemy.exc.ProgrammingError), own.reading() as tx:
            tx.execute(text("SELECT * FROM nothing"))
        with suppress(ZeroDivisionError), own.reading() as tx:
            assert tx.execute(in_progress).scalar_one() is False
            assert tx.execute(in_progress).scalar_one() is False
            raise ZeroDivisionError
        with suppress(ZeroDivisionError), own.transaction() as tx:
            tx.execute(text("INSERT INTO kept VALUES (1)"))
            assert tx.execute(in_progress).scalar_one() is True
            raise ZeroDivisionError
    with own.reading() as tx:
        assert tx.execute(text("SELECT count(*) FROM kept")).scalar_one() == 0
    own.close()


def test_a_question_fails_as_any_statement_does(database_url: str) -> None:
    own = Store(database_url, pool_size=1)
    by_zero = CompiledQuery(
        select((literal_column("1") / bindparam("by", type_=Integer)).label("x")), X
    )
    assert own.ask(by_zero, by=1) == X(1)
    first = backend(own)
    with pytest.raises(sqlalchemy.exc.DataError, match="division by zero"):
        own.ask(by_zero, by=0)
    assert backend(own) == first
    suicide = CompiledQuery(
        select(literal_column("pg_terminate_backend(pg_backend_pid())::text").label("x")), X
    )
    with pytest.raises(sqlalchemy.exc.OperationalError):
        own.ask(suicide)
    assert own.ask(by_zero, by=1) == X(1)
    assert own.ask(CompiledQuery(select(literal_column("1").label("x")).where(false()), X)) is None
    with pytest.raises(ValueError, match="parameter"):
        CompiledQuery(select(literal("1").label("x")), X)
    with pytest.raises(ValueError, match="the fields of X"):
        CompiledQuery(select(literal_column("1").label("y")), X)
    own.close()


def test_a_compiled_statement_writes_what_a_session_does(database_url: str) -> None:
    own = Store(database_url, pool_size=1)
    kept = Table(
        "kept_values",
        MetaData(),
        Column("x", Integer),
        Column("document", JSONB),
        Column("y", Text),
    )
    rows: list[dict[str, object]] = [
        {"x": 1, "document": {"a": [1.5, None]}, "y": "%s :y"},
        {"x": 2, "document": None, "y": None},
    ]
    adding = CompiledStatement(insert(kept).values(y="fixed"), columns=["x", "document"])
    with own.transaction() as tx:
        kept.create(tx.connection())
        tx.execute(insert(kept), rows)
        CompiledStatement(insert(kept), columns=["x", "document", "y"]).run_for_each(tx, rows)
        adding.run_for_each(tx, [])
        adding.run(tx, x=3, document=[])
        text_of = cast(kept.c.document, Text)
        found = tx.execute(select(kept.c.x, text_of, kept.c.y).order_by(kept.c.x)).all()
        assert found[0] == found[1]
        assert found[2] == found[3]
        assert found[4:] == [(3, "[]", "fixed")]
        twice = CompiledStatement(select((2 * bindparam("x", type_=Integer)).label("x")))
        assert twice.run(tx, x=4).fetchall() == [(8,)]
        with pytest.raises(sqlalchemy.exc.StatementError):
            twice.run(tx, y=4)
        tx.rollback()
    own.close()


def kept_values() -> Table:
    return Table("kept_together", MetaData(), Column("x", Integer, primary_key=True))


def test_statements_that_are_sent_together_are_one_transaction(database_url: str) -> None:
    own, kept = Store(database_url, pool_size=1), kept_values()
    adding = CompiledStatement(insert(kept), columns=["x"])
    raising = CompiledStatement(
        update(kept).where(kept.c.x == bindparam("old")).values(x=kept.c.x + literal_column("10"))
    )

    def add_and_raise(*values: int, old: int) -> None:
        with own.transaction() as tx, sent_together(tx):
            adding.run_for_each(tx, [{"x": value} for value in values])
            assert changed_one(tx, raising.run(tx, old=old))

    with own.transaction() as tx:
        kept.create(tx.connection())
    add_and_raise(1, 2, old=1)
    with pytest.raises(NothingChanged):
        add_and_raise(3, old=4)
    with pytest.raises(sqlalchemy.exc.IntegrityError):
        add_and_raise(5, 2, old=5)
    with own.one_statement() as tx:
        adding.run(tx, x=7)
    with own.transaction() as tx:
        assert sorted(tx.scalars(select(kept.c.x))) == [2, 7, 11]
        kept.drop(tx.connection())
    own.close()
