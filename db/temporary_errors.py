"""Which errors of the database may pass by themselves: the only list of them.

The API answers 503 to these and 500 to all others. Workers retry after any error of the database,
and use the list for the reason that callers read.
"""

from __future__ import annotations

import psycopg
from sqlalchemy import exc

#: By SQLSTATE. An error without one is a connection that failed or was lost.
TEMPORARY = {
    "08000": "connection_exception",
    "08001": "sqlclient_unable_to_establish_sqlconnection",
    "08003": "connection_does_not_exist",
    "08004": "sqlserver_rejected_establishment_of_sqlconnection",
    "08006": "connection_failure",
    "08007": "transaction_resolution_unknown",
    # PgBouncer's own errors, such as query_wait_timeout and "server conn crashed?".
    "08P01": "protocol_violation",
    # The server is a standby: the primary has moved, and the connection is replaced.
    "25006": "read_only_sql_transaction",
    "25P03": "idle_in_transaction_session_timeout",
    "25P04": "transaction_timeout",
    "40001": "serialization_failure",
    "40003": "statement_completion_unknown",
    "40P01": "deadlock_detected",
    "53000": "insufficient_resources",
    "53100": "disk_full",
    "53200": "out_of_memory",
    "53300": "too_many_connections",
    "53400": "configuration_limit_exceeded",
    "55P03": "lock_not_available",
    # By statement_timeout, or by an administrator.
    "57014": "query_canceled",
    "57P01": "admin_shutdown",
    "57P02": "crash_shutdown",
    "57P03": "cannot_connect_now",
    "57P05": "idle_session_timeout",
    "58000": "system_error",
    "58030": "io_error",
}

#: Errors of a connection. Class 54 is of this kind too, with an SQLSTATE: such a value is too large
#: today and tomorrow.
_OF_A_CONNECTION = (
    exc.OperationalError,
    exc.InterfaceError,
    psycopg.OperationalError,
    psycopg.InterfaceError,
)


def is_of_connection(error: BaseException) -> bool:
    """Return whether a connection to the server failed, or was lost."""
    sqlstate = getattr(getattr(error, "orig", error), "sqlstate", None)
    return is_temporary(error) and (sqlstate is None or sqlstate.startswith(("08", "57P")))


def is_outage(error: BaseException) -> bool:
    """Return whether the server failed, rather than a statement: it is away, full or broken."""
    sqlstate = getattr(getattr(error, "orig", error), "sqlstate", None) or ""
    return is_of_connection(error) or (is_temporary(error) and sqlstate.startswith(("53", "58")))


def is_temporary(error: BaseException) -> bool:
    """Return whether an error of SQLAlchemy or of the driver may pass by itself.

    So may the wait for a connection of the pool.
    """
    if isinstance(error, exc.TimeoutError):
        return True
    if isinstance(error, exc.DBAPIError) and error.connection_invalidated:
        return True
    sqlstate = getattr(getattr(error, "orig", error), "sqlstate", None)
    if sqlstate is None:
        return isinstance(error, _OF_A_CONNECTION)
    return sqlstate in TEMPORARY
