"""``vacuum_database``: VACUUM ANALYZE, table by table, with its effect."""

from __future__ import annotations

from dataclasses import replace

import psycopg
import structlog
from psycopg import errors, sql

from actors.execution.failures import Permanent
from actors.execution.runtime import Runtime
from actors.messaging.messages import VacuumDatabase
from actors.scheduling import job_runs
from actors.scheduling.job_runs import ScheduledRun
from db.engine import make_engine
from db.queries import retention_queries
from db.tables.documents.job_results import VacuumedTable, VacuumResult

log = structlog.get_logger(__name__)

#: A large table takes long; apart from this, only the run's deadline ends it. Behind a pooler in
#: transaction mode the limit is that of the role.
STATEMENT_TIMEOUT_S = 1_400.0


def vacuum_database(runtime: Runtime, nudge: VacuumDatabase) -> None:
    """Remove dead rows and update the statistics of every table."""
    job_runs.run(runtime, nudge, _vacuum)


def _vacuum(run: ScheduledRun) -> VacuumResult:
    runtime = run.runtime
    with runtime.store.transaction() as tx:
        schema = retention_queries.schema_of_tables(tx)
        before = retention_queries.tables(tx)
        counts = retention_queries.vacuum_counts(tx)
    options = runtime.settings.connection_options("clamor-worker")
    engine = make_engine(
        runtime.settings.database_url,
        replace(options, statement_timeout_s=STATEMENT_TIMEOUT_S),
        pool_size=1,
    )
    try:
        connection = engine.raw_connection()
        driver = connection.driver_connection
        assert isinstance(driver, psycopg.Connection)
        # VACUUM cannot run inside a transaction.
        driver.autocommit = True
        for index, name in enumerate(before):
            run.bar.tell(index / len(before), f"vacuuming {name}")
            _vacuum_one(driver, schema, name)
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


def _vacuum_one(driver: psycopg.Connection[tuple[object, ...]], schema: str, name: str) -> None:
    """Vacuum one table, and log Postgres's warnings and a refusal.

    A table that is locked for too long, or takes too long, keeps no other from being vacuumed.
    """

    def note(notice: psycopg.errors.Diagnostic) -> None:
        if notice.severity_nonlocalized == "WARNING":
            log.warning("vacuum_warning", table=name, message=notice.message_primary)

    driver.add_notice_handler(note)
    try:
        driver.execute(sql.SQL("VACUUM (ANALYZE) {}").format(sql.Identifier(schema, name)))
        # The removed rows reach the statistics at the end of the transaction, or later.
        driver.execute("SELECT pg_stat_force_next_flush()")
    except (errors.QueryCanceled, errors.LockNotAvailable, errors.InsufficientPrivilege) as error:
        log.warning("vacuum_refused", table=name, error=type(error).__name__)
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
            f"not vacuumed: {', '.join(skipped)}. The role of the workers' DATABASE_URL must own "
            "the tables or, on Postgres 17 and newer, have MAINTAIN on them (clamor migrate "
            "--grant); otherwise have their owner vacuum them (docs/dba.md). Tables that are "
            "locked or take too long are in the log as vacuum_refused. Postgres's track_counts "
            "must be on",
        )
