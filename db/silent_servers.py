"""The client's deadlines, for a server that accepts connections and does not answer.

A stopped server, or a network that drops packets, ends no statement by its own timeouts, and the
kernel of a stopped server keeps its connections alive. So each wait for an answer has a deadline on
this side, after which the connection is closed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

import psycopg
from psycopg import errors
from psycopg.abc import PQGen

#: After a silence, new connections are tried this often, and refused at once in between.
PAUSE_S = 2.0
#: A connection that fails sooner than this costs little, and is tried again each time.
QUICK_S = 0.5

RV = TypeVar("RV")


class ServerSilent(psycopg.OperationalError):
    """The server did not answer in time, or has not for a while."""


class Breaker:
    """Spares callers the wait for a server that does not answer.

    After a silence one connection at a time is tried. Callers that come meanwhile wait for its
    outcome, and fail with it.
    """

    def __init__(self) -> None:
        self._trying = threading.Lock()
        #: When the server last failed to answer; None if it has answered since.
        self._silent_at: float | None = None

    def connect(self, connect: Callable[[], RV]) -> RV:
        """Return a new connection.

        Raises
        ------
        psycopg.OperationalError
            If none can be made, or the last attempt was in vain a moment ago.
        """
        if self._silent_at is None:
            return self._try(connect)
        with self._trying:
            if self.is_silent_since(time.monotonic() - PAUSE_S):
                raise ServerSilent("the server has not answered for a while")
            return self._try(connect)

    def note_silence(self) -> None:
        """Record that the server did not answer in time."""
        self._silent_at = time.monotonic()

    def is_silent_since(self, time_s: float) -> bool:
        """Return whether the server failed to answer after a time of the monotonic clock."""
        silent_at = self._silent_at
        return silent_at is not None and silent_at > time_s

    def _try(self, connect: Callable[[], RV]) -> RV:
        began = time.monotonic()
        try:
            made = connect()
        except psycopg.OperationalError:
            if time.monotonic() - began > QUICK_S:
                self.note_silence()
            raise
        self._silent_at = None
        return made


class BoundedConnection(psycopg.Connection[Any]):
    """A connection that is closed when an answer takes too long."""

    @classmethod
    def connect_in_time(cls, within_s: float, *arguments: Any, **named: Any) -> BoundedConnection:
        """Return a new connection; in another thread, as a resolver may block for ever.

        The driver's own timeout only begins once the name of the host is resolved.

        Raises
        ------
        ServerSilent
            If there is none in time.
        """
        made: Future[BoundedConnection] = Future()

        def connect() -> None:
            try:
                connection = cls.connect(*arguments, **named)
            except Exception as error:
                made.set_exception(error)
                return
            made.set_result(connection)
            if abandoned.is_set():
                connection.close()

        abandoned = threading.Event()
        threading.Thread(target=connect, name="connect", daemon=True).start()
        try:
            return made.result(within_s)
        except TimeoutError:
            abandoned.set()
            if made.done() and made.exception() is None:
                made.result().close()
            raise ServerSilent(f"no connection within {within_s:g} s") from None

    #: How long one answer may take. None for no limit.
    answer_timeout_s: float | None = None
    breaker: Breaker

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        """Wait for an answer of the server: every statement, commit and block of a copy.

        Raises
        ------
        ServerSilent
            If it does not come in time. Its statement may still have been carried out.
        """
        try:
            return super().wait(
                gen, interval, self.answer_timeout_s if timeout is None else timeout
            )
        except errors._WaitTimeout:
            if timeout is not None:
                raise
            self.breaker.note_silence()
            # Nothing is sent that would wait again, such as a rollback.
            self.pgconn.finish()
            raise ServerSilent(
                f"the server did not answer within {self.answer_timeout_s:g} s"
            ) from None
