"""``GET /v1/sessions/{session_id}/events``: a session as it goes on, as server-sent events.

A stream occupies a thread of the server for minutes. So there are threads beyond those of the
requests for as many streams as a process allows, and no stream holds a connection to the database
between two looks.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator

import falcon
import msgspec
import structlog
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from db.queries import session_queries
from db.store import Store
from services.api.sessions import schemas
from services.api.sessions.resources import load
from services.http.access import owner
from services.http.errors import SessionNotFound, Stopping, TooManyStreams
from services.http.operations import operation

log = structlog.get_logger(__name__)

#: Between two looks at a session: what a person sees as at once, for a query by primary key.
LOOK_S = 0.5
#: The same after a look that failed: a database that is away shall not be beset.
AWAY_S = 2.0
#: A stream is never silent for longer. A client that vanished is noticed by what is sent to it.
HEARTBEAT_S = 10.0
#: After this a stream ends and its client comes back, so that no one keeps a place for ever: not
#: even a machine that vanished without a word, or a client that does not read what it is sent.
LONGEST_S = 600.0
#: When a client shall come back, in milliseconds.
RETRY_MS = 1_000


class Places:
    """How many streams may go on at once in this process, and whether they shall end."""

    def __init__(self, n_places: int, *, stopping: threading.Event) -> None:
        self._free = threading.Semaphore(n_places)
        self._n_places = n_places
        self.stopping = stopping

    def take(self) -> None:
        """Take a place; raises :class:`TooManyStreams` or :class:`Stopping`."""
        if self.stopping.is_set():
            raise Stopping("this process is about to end")
        if not self._free.acquire(blocking=False):
            raise TooManyStreams(
                f"this process has {self._n_places} of them; ask for the session itself meanwhile"
            )

    def give_back(self) -> None:
        """Let somebody else have a place that was taken."""
        self._free.release()


class SessionEvents:
    """``GET /v1/sessions/{session_id}/events``."""

    def __init__(self, store: Store, places: Places) -> None:
        self._store = store
        self._places = places

    @operation(
        scope="sessions:read",
        media="text/event-stream",
        problems=(SessionNotFound, Stopping, TooManyStreams),
    )
    def on_get(self, req: falcon.Request, resp: falcon.Response, session_id: uuid.UUID) -> None:
        """``progress`` whenever the session has changed, ``done`` at its end.

        ``Last-Event-ID`` is not looked at: a stream always begins with the session as it stands.
        """
        load(self._store, session_id, owner=owner(req))
        resp.content_type = "text/event-stream"
        resp.cache_control = ["no-cache"]
        # Asks nginx not to collect the answer before it passes it on.
        resp.set_header("X-Accel-Buffering", "no")
        resp.stream = Stream(self._store, session_id, self._places, owner=owner(req))


class Stream(Iterator[bytes]):
    """The pieces of one stream, made as the server asks for them; it has a place until it ends.

    No generator: the server closes what it has not begun to read, too, and a generator that was
    not begun gives nothing back.
    """

    def __init__(
        self, store: Store, session_id: uuid.UUID, places: Places, *, owner: uuid.UUID | None = None
    ) -> None:
        self._store = store
        self._session_id = session_id
        self._owner = owner
        self._places = places
        self._version = b""
        self._sent: schemas.Session | None = None
        self._ends_at = time.monotonic() + LONGEST_S
        self._pause_s = 0.0
        self._lock = threading.Lock()
        places.take()
        self._has_place = True

    def __next__(self) -> bytes:
        try:
            piece = self._next_piece()
        except BaseException:
            self.close()
            raise
        if piece is None:
            self.close()
            raise StopIteration
        return piece

    def close(self) -> None:
        """Give the place back; once is enough."""
        with self._lock:
            had_place, self._has_place = self._has_place, False
        if had_place:
            self._places.give_back()

    def _next_piece(self) -> bytes | None:
        """What is to be sent next, as soon as there is something; None at the end."""
        if self._sent is not None and self._sent.finished:
            return None
        silent_until = time.monotonic() + HEARTBEAT_S
        while not self._places.stopping.wait(self._pause_s) and time.monotonic() < self._ends_at:
            self._pause_s = LOOK_S
            is_silent = time.monotonic() >= silent_until
            try:
                # Time goes on where nothing happens: what is told of the rest may have changed.
                changed = self._look(afresh=is_silent)
            except SessionNotFound:
                return None
            except (DBAPIError, PoolTimeout) as error:
                log.warning("stream_waits", reason="database away", error=type(error).__name__)
                self._pause_s, changed = AWAY_S, None
            if changed is not None:
                return self._event(changed)
            if is_silent:
                return b": still here\n\n"
        return None

    def _look(self, *, afresh: bool) -> schemas.Session | None:
        """The session, if it is another than the one that was sent last.

        Unless ``afresh``, only the row's version is asked for where that has not changed.
        """
        with self._store.transaction() as db:
            version = (session_queries.session_version(db, self._session_id) or "").encode()
        if version == self._version and not afresh:
            return None
        session = load(self._store, self._session_id, owner=self._owner)
        self._version = version
        return None if session == self._sent else session

    def _event(self, session: schemas.Session) -> bytes:
        is_first, self._sent = self._sent is None, session
        retry = b"retry: %d\n" % RETRY_MS if is_first else b""
        kind = b"done" if session.finished else b"progress"
        body = msgspec.json.encode(session)
        return b"%sid: %s\nevent: %s\ndata: %s\n\n" % (retry, self._version, kind, body)
