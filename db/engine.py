"""The database engine: how connections are made, and what is in force on each of them.

The run-time parameters of a session (timeouts, UTC) are sent with the connection. A pooler in
transaction mode accepts none, and what a session sets there reaches the transactions of others. So
they come from the role then, as ``clamor migrate --grant`` sets them, at no cost. If the role lacks
them, each transaction begins with a statement that sets them, which is a round trip more.
"""

from __future__ import annotations

import math
from typing import Any

import psycopg
import sqlalchemy
import structlog
from psycopg import sql
from psycopg.pq import TransactionStatus
from sqlalchemy import event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.pool import ConnectionPoolEntry

from db.connection_options import ConnectionOptions
from db.silent_servers import BoundedConnection, Breaker

log = structlog.get_logger(__name__)

#: TCP settings by which a connection counts as dead after about 35 s without an answer from the
#: other end. A server that is busy with a statement still answers.
SILENT_PEER = {
    "keepalives_idle": 20,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 35_000,
}
#: How long after its timeout a statement may end on a busy server, before the connection is closed.
ANSWER_GRACE_S = 1.0
#: Under this key the pool's record of a connection has the statement that begins each of its
#: transactions, if the role lacks the parameters.
FIRST_STATEMENT = "first_statement"

#: Whether the role sets the parameters. A role may have other timeouts, but not none.
_ROLE_HAS_PARAMETERS = """
    SELECT current_setting('statement_timeout') <> '0'
       AND current_setting('lock_timeout') <> '0'
       AND current_setting('idle_in_transaction_session_timeout') <> '0'
       AND current_setting('timezone') IN ('UTC', 'Etc/UTC')
       AND current_setting('datestyle') LIKE 'ISO%'
       AND current_setting('default_transaction_isolation') = 'read committed'
"""


def driver_url(url: str) -> sqlalchemy.URL:
    """Convert a libpq URL to SQLAlchemy's form, with the psycopg 3 driver."""
    return sqlalchemy.make_url(url).set(drivername="postgresql+psycopg")


def make_engine(
    url: str,
    options: ConnectionOptions | None = None,
    *,
    breaker: Breaker | None = None,
    **pool: Any,
) -> sqlalchemy.Engine:
    """Create an engine with timeouts on all waits. All engines are created here.

    The server ends a stuck statement. If the server itself vanishes without closing the connection,
    the operating system notices and closes it. With a ``breaker``, a connection is also closed if
    the server does not answer soon after the timeout of a statement; without one, statements may
    set longer timeouts.
    """
    options = options or ConnectionOptions()
    parsed = driver_url(url)
    arguments: dict[str, Any] = {
        # libpq takes whole seconds, and treats 1 as 2.
        "connect_timeout": max(2, math.ceil(options.connect_timeout_s)),
        "application_name": options.application_name,
        # Whatever PGCLIENTENCODING or the database says.
        "client_encoding": "utf8",
        **SILENT_PEER,
    }
    if options.in_transaction_mode:
        # A statement that was prepared in one session is unknown in the next.
        arguments["prepare_threshold"] = None
    else:
        arguments["options"] = _startup_options(parsed, options)
    engine = sqlalchemy.create_engine(parsed, connect_args=arguments, **pool)
    if options.in_transaction_mode:
        _set_missing_parameters(engine, options)
    if breaker is not None:
        # The driver tries one host after the other.
        named = parsed.query.get("host", parsed.host or "")
        n_hosts = len(named.split(",") if isinstance(named, str) else named)
        connect_s = n_hosts * arguments["connect_timeout"] + ANSWER_GRACE_S
        answer_s = options.statement_timeout_s + ANSWER_GRACE_S
        _bound(engine, breaker, connect_timeout_s=connect_s, answer_timeout_s=answer_s)
    _leave_read_only_servers(engine)
    return engine


def _bound(
    engine: sqlalchemy.Engine,
    breaker: Breaker,
    *,
    connect_timeout_s: float,
    answer_timeout_s: float,
) -> None:
    """Give up connections of a server that does not answer."""

    @event.listens_for(engine, "do_connect")
    def connect(
        _dialect: object, _entry: object, arguments: list[Any], named: dict[str, Any]
    ) -> BoundedConnection:
        made = breaker.connect(
            lambda: BoundedConnection.connect_in_time(connect_timeout_s, *arguments, **named)
        )
        made.breaker, made.answer_timeout_s = breaker, answer_timeout_s
        return made


def _startup_options(url: sqlalchemy.URL, options: ConnectionOptions) -> str:
    """Return the ``options`` of the URL, such as a search path, and then ours."""
    given = url.query.get("options", ())
    ours = (
        "-c {}={}".format(name, value.replace(" ", r"\ "))
        for name, value in options.session_parameters().items()
    )
    return " ".join([*((given,) if isinstance(given, str) else given), *ours])


def _set_missing_parameters(engine: sqlalchemy.Engine, options: ConnectionOptions) -> None:
    """Let each transaction begin with its parameters, on connections whose role has none."""
    calls = sql.SQL(", ").join(
        sql.SQL("set_config({}, {}, true)").format(name, value)
        for name, value in options.session_parameters().items()
    )
    statement = sql.SQL("SELECT {}").format(calls)

    @event.listens_for(engine, "connect")
    def look(connection: psycopg.Connection[Any], entry: ConnectionPoolEntry) -> None:
        connection.autocommit = True
        row = connection.execute(_ROLE_HAS_PARAMETERS).fetchone()
        connection.autocommit = False
        if row == (True,):
            entry.info.pop(FIRST_STATEMENT, None)
            return
        log.warning(
            "role_without_timeouts",
            remedy="run the SQL of clamor migrate --grant, and RECONNECT in the pooler's console",
        )
        entry.info[FIRST_STATEMENT] = statement

    @event.listens_for(engine, "begin")
    def begin(connection: sqlalchemy.Connection) -> None:
        driver = connection.connection.driver_connection
        assert isinstance(driver, psycopg.Connection)
        # A session that reads has begun already (:meth:`db.store.Store.reading`).
        is_idle = driver.info.transaction_status == TransactionStatus.IDLE
        if is_idle and FIRST_STATEMENT in connection.info:
            driver.execute(connection.info[FIRST_STATEMENT])


def _leave_read_only_servers(engine: sqlalchemy.Engine) -> None:
    """Close all connections when the server turns out to be a standby.

    After a failover, the connections to the former primary still answer. New ones reach the new
    primary.
    """

    @event.listens_for(engine, "handle_error")
    def look(context: ExceptionContext) -> None:
        if isinstance(context.original_exception, psycopg.errors.ReadOnlySqlTransaction):
            context.is_disconnect = True
