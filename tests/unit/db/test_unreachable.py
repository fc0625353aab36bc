"""The error of a database that cannot be reached names its host and never its password."""

from __future__ import annotations

import psycopg
import pytest
from sqlalchemy.exc import OperationalError, ProgrammingError

from db.engine import make_engine
from db.unreachable import DatabaseUnreachable, reached

REFUSED = (
    'connection failed: connection to server at "10.0.0.1", port 5432 failed: FATAL:  no\nmore'
)
CASES = {
    ("postgresql://u:hidden@db:6432/x", REFUSED): "db, port 6432, cannot be reached (FATAL: no)",
    ("postgresql://u:hidden@db/x", "connection timeout expired"): "db, port 5432, cannot be"
    " reached (connection timeout expired)",
    ("postgresql://u:hidden@/x?host=/run/pg", "connection is bad: none"): "/run/pg, port 5432,"
    " cannot be reached (none)",
    ("postgresql://u:hidden@/x?host=a&host=b", "gone"): "a, b, port 5432, cannot be reached (gone)",
    ("postgresql:///x", "gone"): "the local socket, port 5432, cannot be reached (gone)",
}


@pytest.mark.parametrize(("url", "reason"), CASES)
def test_the_host_and_the_reason(url: str, reason: str) -> None:
    engine = make_engine(url)
    with pytest.raises(DatabaseUnreachable) as failure, reached(engine, variable="URL"):
        raise OperationalError(None, None, psycopg.OperationalError(reason))
    said = str(failure.value)
    assert said == f"the database at {CASES[url, reason]}: check that it runs and that URL is right"


@pytest.mark.parametrize("kind", [psycopg.errors.LockNotAvailable, psycopg.errors.UndefinedTable])
def test_an_error_of_a_statement_stays_as_it_is(kind: type[psycopg.Error]) -> None:
    with pytest.raises(ProgrammingError), reached(make_engine("postgresql://db/x")):
        raise ProgrammingError("SELECT", None, kind("refused"))


def test_a_server_that_stops_during_a_statement_is_named() -> None:
    with pytest.raises(DatabaseUnreachable), reached(make_engine("postgresql://db/x")):
        raise OperationalError("SELECT", None, psycopg.errors.AdminShutdown("terminating"))
