"""The state of Postgres, as an operator sees it: transactions, dead rows, indexes, connections."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from db.queries.namespaces import OURS, STATISTICS


@dataclass(frozen=True, kw_only=True)
class Connections:
    """The connections to this database of one kind of process in one state."""

    #: A name that Clamor's processes give themselves, or ``other``.
    application: str
    #: A state of ``pg_stat_activity``, or ``hidden``: it belongs to a role that ours may not see.
    state: str
    number: int


@dataclass(frozen=True, kw_only=True)
class ServerState:
    """The state of the server, as far as our role may see it."""

    #: Age of the oldest transaction in this database; 0 without one.
    oldest_transaction_s: float
    #: The share of the transaction IDs, or of the multixact IDs, that the database which needs
    #: freezing most has used: at 1 the server refuses to write.
    xid_share: float
    live_rows: dict[str, int]
    #: By table. An estimate, as the row counts of Postgres's statistics are.
    dead_rows: dict[str, int]
    #: Names of invalid indexes of our tables, except those that may be under construction.
    invalid_indexes: list[str]
    connections: list[Connections]


#: Sizes in bytes are left out: to read one waits for a lock of its table, and a scrape must not
#: wait for a migration. Names that a client has chosen for itself do not become labels.
_SERVER = text(f"""
    WITH session AS (
        SELECT CASE
                   WHEN application_name IN (
                       'clamor', 'clamor-api', 'clamor-worker', 'clamor-scheduler', 'clamor-migrate'
                   ) THEN application_name
                   ELSE 'other'
               END AS application,
               coalesce(state, 'hidden') AS state,
               xact_start
        FROM pg_stat_activity
        -- Without a user it is a process of the server, such as autovacuum.
        WHERE datname = current_database() AND usesysid IS NOT NULL AND pid <> pg_backend_pid()
    ),
    stats AS (
        SELECT root.relname, sum(n_live_tup) AS n_live_tup, sum(n_dead_tup) AS n_dead_tup
        {STATISTICS}
    )
    SELECT
        (
            SELECT greatest(max(extract(epoch FROM clock_timestamp() - xact_start)), 0) FROM session
        )::float8 AS oldest_transaction_s,
        (
            SELECT max(greatest(age(datfrozenxid), mxid_age(datminmxid))) / 2147483648.0
            FROM pg_database
        )::float8 AS xid_share,
        (SELECT coalesce(jsonb_object_agg(relname, n_live_tup), '{{}}') FROM stats) AS live_rows,
        (SELECT coalesce(jsonb_object_agg(relname, n_dead_tup), '{{}}') FROM stats) AS dead_rows,
        ARRAY(
            SELECT relname::text FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
            WHERE NOT indisvalid AND relnamespace = {OURS}
              -- CREATE INDEX CONCURRENTLY holds this lock until the index is valid.
              AND NOT EXISTS (
                  SELECT FROM pg_locks
                  WHERE locktype = 'relation' AND relation = indrelid
                    AND mode = 'ShareUpdateExclusiveLock' AND granted
              )
            ORDER BY relname
        ) AS invalid_indexes,
        (
            SELECT coalesce(jsonb_agg(jsonb_build_array(application, state, number)), '[]')
            FROM (
                SELECT application, state, count(*) AS number FROM session
                GROUP BY application, state ORDER BY application, state
            ) AS counted
        ) AS connections
""")  # noqa: S608


def state(tx: Session) -> ServerState:
    """Return the state of the server by one statement, which waits for no lock of a table.

    A role without ``pg_read_all_stats`` sees only the transactions of the same role; connections
    of other roles are counted as ``hidden``. Our own connection is left out.
    """
    row: Any = tx.execute(_SERVER).one()
    return ServerState(
        oldest_transaction_s=row.oldest_transaction_s,
        xid_share=row.xid_share,
        live_rows=row.live_rows,
        dead_rows=row.dead_rows,
        invalid_indexes=row.invalid_indexes,
        connections=[
            Connections(application=application, state=state, number=number)
            for application, state, number in row.connections
        ],
    )
