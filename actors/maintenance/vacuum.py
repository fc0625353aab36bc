"""``vacuum_database``: VACUUM ANALYZE, table by table, with what it brought."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg import sql

from actors import clock
from actors.clock import Turn
from actors.failures import Permanent
from actors.messages import VacuumDatabase
from actors.runtime import Runtime
from db import upkeep_queries
from db.session import make_engine

#: A large table takes its time; the run's deadline ends it otherwise.
STATEMENT_TIMEOUT_MS = 1_400_000


def vacuum_database(runtime: Runtime, nudge: VacuumDatabase) -> None:
    """Remove dead rows and renew the statistics of every table."""
    clock.run(runtime, nudge, _vacuum)


def _vacuum(turn: Turn) -> dict[str, Any]:
    runtime = turn.runtime
    with runtime.store.transaction() as db:
        before = upkeep_queries.tables(db)
    engine = make_engine(
        runtime.settings.database_url, statement_timeout_ms=STATEMENT_TIMEOUT_MS, pool_size=1
    )
    try:
        connection: Any = engine.raw_connection()
        driver: psycopg.Connection[Any] = connection.dbapi_connection
        # VACUUM runs in no transaction.
        driver.autocommit = True
        for index, name in enumerate(before):
            turn.bar.tell(index / len(before), f"vacuuming {name}")
            _vacuum_one(driver, name)
        driver.autocommit = False
        connection.close()
    finally:
        engine.dispose()
    with runtime.store.transaction() as db:
        after = upkeep_queries.tables(db)
    return {
        "tables": {
            name: {"before": before[name], "after": after[name]} for name in before if name in after
        }
    }


def _vacuum_one(driver: psycopg.Connection[Any], name: str) -> None:
    """Vacuum one table; a table that is passed over is an error.

    Who does not own a table is told by a warning that it was passed over, and that all is well.
    """
    notices: list[str] = []

    def note(notice: psycopg.errors.Diagnostic) -> None:
        if notice.severity_nonlocalized == "WARNING":
            notices.append(notice.message_primary or "a warning without words")

    driver.add_notice_handler(note)
    try:
        driver.execute(sql.SQL("VACUUM (ANALYZE) {}").format(sql.Identifier("public", name)))
        # What it removed is told to the statistics at the end of the transaction, or later.
        driver.execute("SELECT pg_stat_force_next_flush()")
    finally:
        driver.remove_notice_handler(note)
    if notices:
        raise Permanent("vacuum-skipped", f"{name} was not vacuumed: {'; '.join(notices)}")
