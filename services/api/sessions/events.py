"""``GET /v1/sessions/{session_id}/events``: the progress of a session as server-sent events.

A stream occupies a server thread for minutes. The server therefore has an extra thread for each
stream that a process allows, and no stream holds a database connection between two polls.
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
from services.api.sessions.resources import fetch_view
from services.http import exchange as exchanges
from services.http.access import owner, principal
from services.http.not_found import NotFound
from services.http.operations import operation
from services.http.resource import Resource
from services.http.server_errors import Stopping, TooManyStreams

log = structlog.get_logger(__name__)

#: Interval between polls of a session: short enough to appear immediate, at the cost of one query
#: by primary key.
LOOK_S = 0.5
#: The interval after a failed poll, to spare a database that is unavailable.
AWAY_S = 2.0
#: Longest silence of a stream. Sending is the only way to notice a client that disappeared.
HEARTBEAT_S = 10.0
#: Maximum duration of a stream; the client then reconnects. This frees the places of machines that
#: vanished without closing the connection and of clients that do not read.
LONGEST_S = 600.0
#: Delay before a client reconnects, in milliseconds.
RETRY_MS = 1_000


class SessionEvents(Resource):
    """``GET /v1/sessions/{session_id}/events``."""

    @operation(
        scope="sessions:read",
        media="text/event-stream",
        problems=(NotFound.of("session"), Stopping, TooManyStreams),
    )
    def on_get(self, req: falcon.Request, resp: falcon.Response, session_id: uuid.UUID) -> None:
        """Stream the progress of a session: ``progress`` whenever it changes, ``done`` at its end.

        ``Last-Event-ID`` is ignored: a stream always starts with the current state of the session.
        """
        if self.deps.stopping.is_set():
            raise Stopping("this process is shutting down")
        fetch_view(self.deps.store, session_id, owner=owner(req))
        exchanges.of(req).place = self.deps.places.streams.take(principal(req).user_id)
        resp.content_type = "text/event-stream"
        resp.cache_control = ["no-cache"]
        # Disables the buffering of the response in nginx.
        resp.set_header("X-Accel-Buffering", "no")
        resp.stream = Stream(self.deps.store, session_id, self.deps.stopping, owner=owner(req))


class Stream(Iterator[bytes]):
    """An iterator over the messages of one stream, until ``stopping`` is set or it has lasted long
    enough.
    """

    def __init__(
        self,
        store: Store,
        session_id: uuid.UUID,
        stopping: threading.Event,
        *,
        owner: uuid.UUID | None = None,
    ) -> None:
        self._store = store
        self._session_id = session_id
        self._owner = owner
        self._stopping = stopping
        self._version = b""
        self._sent: schemas.Session | None = None
        self._ends_at = time.monotonic() + LONGEST_S
        self._pause_s = 0.0

    def __next__(self) -> bytes:
        piece = self._next_piece()
        if piece is None:
            raise StopIteration
        return piece

    def _next_piece(self) -> bytes | None:
        """Wait for the next message and return it; None at the end of the stream."""
        if self._sent is not None and self._sent.finished:
            return None
        silent_until = time.monotonic() + HEARTBEAT_S
        while not self._stopping.wait(self._pause_s) and time.monotonic() < self._ends_at:
            self._pause_s = LOOK_S
            is_silent = time.monotonic() >= silent_until
            try:
                # The estimate of the time left changes even if the row does not.
                changed = self._view_if_changed(afresh=is_silent)
            except NotFound:
                return None
            except (DBAPIError, PoolTimeout) as error:
                log.warning("stream_waits", reason="database away", error=type(error).__name__)
                self._pause_s, changed = AWAY_S, None
            if changed is not None:
                return self._event(changed)
            if is_silent:
                return b": still here\n\n"
        return None

    def _view_if_changed(self, *, afresh: bool) -> schemas.Session | None:
        """Return the session if it differs from the one sent last, otherwise None.

        Unless ``afresh``, an unchanged version of the row is enough to return None.
        """
        with self._store.transaction() as tx:
            version = (session_queries.session_version(tx, self._session_id) or "").encode()
        if version == self._version and not afresh:
            return None
        session = fetch_view(self._store, self._session_id, owner=self._owner)
        self._version = version
        return None if session == self._sent else session

    def _event(self, session: schemas.Session) -> bytes:
        is_first, self._sent = self._sent is None, session
        retry = b"retry: %d\n" % RETRY_MS if is_first else b""
        kind = b"done" if session.finished else b"progress"
        body = msgspec.json.encode(session)
        return b"%sid: %s\nevent: %s\ndata: %s\n\n" % (retry, self._version, kind, body)
