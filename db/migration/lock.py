"""The lock of migrations: one process at a time."""

from __future__ import annotations

import time

import sqlalchemy
from sqlalchemy import Connection

from db.migration.errors import MigrationError
from db.migration.execution import Say

#: The advisory lock.
MIGRATION_LOCK = 0x6D696772617465
#: The server's process that holds it.
LOCK_HOLDER = sqlalchemy.text(
    "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1"
    " AND ((classid::bigint << 32) | objid::bigint) = :key"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
).bindparams(key=MIGRATION_LOCK)
#: How long a process waits for another one that is migrating, and may wait for a dump itself.
LOCK_WAIT_S = 1_800.0
LOCK_POLL_S = 0.5


def take(connection: Connection, say: Say) -> None:
    """Take the lock on the connection that migrates.

    The server keeps the lock until it notices that the connection is closed, which is after the end
    of a statement that it is running. So the successor of a process that was killed during a long
    step starts when the step has ended, and finds its result.

    The lock is polled: a session that *waits* for an advisory lock holds a snapshot, and a ``CREATE
    INDEX CONCURRENTLY`` in the running migration would wait for that.

    Raises
    ------
    MigrationError
        If another process holds it for longer than ``LOCK_WAIT_S``.
    """
    began_at = time.monotonic()
    taken = sqlalchemy.select(sqlalchemy.func.pg_try_advisory_lock(MIGRATION_LOCK))
    said = False
    while not connection.scalar(taken):
        holder = connection.scalar(LOCK_HOLDER)
        # A transaction that stays open would hold back the other process.
        connection.rollback()
        if time.monotonic() - began_at > LOCK_WAIT_S:
            raise MigrationError(
                f"another migration, process {holder} of the server, has run for more than"
                f" {LOCK_WAIT_S:.0f} s: run clamor migrate again when it has ended"
            )
        if not said:
            say(f"waits for another migration, process {holder} of the server")
            said = True
        time.sleep(LOCK_POLL_S)
    connection.commit()
