"""``vacuum_database``: VACUUM ANALYZE, table by table, with its effect."""

from __future__ import annotations

import psycopg
import structlog
from psycopg import sql

from actors.execution.failures import Permanent
from actors.execution.runtime import Runtime
from actors.messaging.messages import VacuumDatabase
from actors.scheduling import job_runs
from actors.scheduling.job_runs import ScheduledRun
from db.queries import retention_queries
from db.store import make_engine
from db.tables.documents.job_results import VacuumedTable, VacuumResult

log = structlog.get_logger(__name__)

#: A large table takes long; apart from this, only the run's deadline ends it.
STATEMENT_TIMEOUT_MS = 1_400_000


def vacuum_database(runtime: Runtime, nudge: VacuumDatabase) -> None:
    """Remove dead rows and update the statistics of every table."""
    job_runs.run(runtime, nudge, _vacuum)


def _vacuum(run: ScheduledRun) -> VacuumResult:
    runtime = run.runtime
    with runtime.store.transaction() as tx:
        before = retention_queries.tables(tx)
        counts = retention_queries.vacuum_counts(tx)
    engine = make_engine(
        runtime.settings.database_url, statement_timeout_ms=STATEMENT_TIMEOUT_MS, pool_size=1
    )
    try:
        connection = engine.raw_connection()
        driver = connection.driver_connection
        assert isinstance(driver, psycopg.Connection)
        # VACUUM cannot run inside a transaction.
        driver.autocommit = True
        for index, name in enumerate(before):
            run.bar.tell(index / len(before), f"vacuuming {name}")
            _vacuum_one(driver, name)
        driver.autocommit = False
        connection.close()
    finally:
        engine.dispose()
    with runtime.store.transaction() as tx:
        after = retention_queries.tables(tx)
        counts_after = retention_queries.vacuum_counts(tx)
    refuse_skipped([name for name, count in counts.items() if counts_after.get(name) == count])
    return VacuumResult(
        tables={
            name: VacuumedTable(before=before[name], after=after[name])
            for name in before
            if name in after
        }
    )


def _vacuum_one(driver: psycopg.Connection[tuple[object, ...]], name: str) -> None:
    """Vacuum one table and log Postgres's warnings."""

    def note(notice: psycopg.errors.Diagnostic) -> None:
        if notice.severity_nonlocalized == "WARNING":
            log.warning("vacuum_warning", table=name, message=notice.message_primary)

    driver.add_notice_handler(note)
    try:
        driver.execute(sql.SQL("VACUUM (ANALYZE) {}").format(sql.Identifier("public", name)))
        # The removed rows reach the statistics at the end of the transaction, or later.
        driver.execute("SELECT pg_stat_force_next_flush()")
    finally:
        driver.remove_notice_handler(note)


def refuse_skipped(skipped: list[str]) -> None:
    """Raise if tables were not vacuumed.

    VACUUM succeeds with a warning if the role may not vacuum a table. The wording of the warning
    differs between releases, and other warnings occur for vacuumed tables too, so the counts of
    Postgres decide.
    """
    if skipped:
        raise Permanent(
            "vacuum-skipped",
            f"not vacuumed: {', '.join(skipped)}. The workers' DATABASE_URL must name the owner of "
            "the tables (on Postgres 17 and newer, a role with MAINTAIN will do), and Postgres's "
            "track_counts must be on",
        )
