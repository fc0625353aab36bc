"""How a process connects to Postgres: its name, its timeouts, and whether a pooler is between."""

from __future__ import annotations

from dataclasses import dataclass

#: The values of ``CLAMOR_DATABASE_POOLER``: a direct connection or a pooler in session mode, and a
#: pooler in transaction mode, such as PgBouncer.
NO_POOLER, TRANSACTION_POOLER = "none", "transaction"


@dataclass(frozen=True, kw_only=True)
class ConnectionOptions:
    """The options of a process's connections. The defaults are those of the settings."""

    #: The name of the process in ``pg_stat_activity``.
    application_name: str = "clamor"
    database_pooler: str = NO_POOLER
    #: How long a thread waits for a free connection of its process's pool.
    pool_timeout_s: float = 5.0
    connect_timeout_s: float = 5.0
    #: No statement of the product takes nearly this long; one that does is stuck.
    statement_timeout_s: float = 30.0
    #: A lock that is held for longer indicates a fault.
    lock_timeout_s: float = 10.0
    idle_in_transaction_timeout_s: float = 60.0

    @property
    def in_transaction_mode(self) -> bool:
        """Whether each transaction may run in another session of the server."""
        return self.database_pooler == TRANSACTION_POOLER

    def timeouts(self) -> dict[str, str]:
        """Return Postgres's timeouts, in milliseconds."""
        return {
            "statement_timeout": _ms(self.statement_timeout_s),
            "lock_timeout": _ms(self.lock_timeout_s),
            "idle_in_transaction_session_timeout": _ms(self.idle_in_transaction_timeout_s),
        }

    def session_parameters(self) -> dict[str, str]:
        """Return the run-time parameters of every session."""
        return {
            **self.timeouts(),
            "timezone": "UTC",
            # The database may have others. The driver reads times in this style only, and claims
            # rely on statements that see the latest commits.
            "datestyle": "ISO, YMD",
            "default_transaction_isolation": "read committed",
            # For a page of a list, compiling a plan and starting parallel workers take longer than
            # running the plan.
            "jit": "off",
            "max_parallel_workers_per_gather": "0",
        }


def _ms(seconds: float) -> str:
    # 0 would disable the timeout.
    return str(max(1, round(seconds * 1_000)))
