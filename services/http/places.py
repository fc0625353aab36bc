"""Places for what may take minutes: uploads, downloads and event streams.

Each occupies a thread of the server for as long as its peer takes. The server has a thread for
every place, besides those of other requests, so however slow peers are, other requests are served.
A user may hold a share of the places, and all callers without a key together the share of one user.

The bounds are those of one process; `services.http.connection_guard` ends what makes no progress.
"""

from __future__ import annotations

import math
import threading
import uuid
from collections import Counter
from collections.abc import Iterator

import falcon

from db.settings import Settings
from services.http import exchange as exchanges
from services.http.access import Principal
from services.http.caller_errors import TooManyAtOnce
from services.http.errors import ServiceError
from services.http.server_errors import ServerBusy, TooManyStreams

#: A larger answer takes a place, and is handed over in pieces: the server would keep a copy of it
#: until its peer has read it.
LARGE_BYTES = 256 * 1024
#: Bytes of a piece of such an answer.
PIECE_BYTES = 64 * 1024


class HeldPlace:
    """One place that is held; :meth:`close` gives it back."""

    def __init__(self, pool: Pool, holder: uuid.UUID | None) -> None:
        self._pool: Pool | None = pool
        self._holder = holder

    def close(self) -> None:
        """Give the place back. Calling it again has no effect."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.give_back(self._holder)


class Pool:
    """The places of one kind in this process."""

    def __init__(
        self, kind: str, n_places: int, *, share: float, busy: type[ServiceError] = ServerBusy
    ) -> None:
        self._kind = kind
        self._n_places = n_places
        #: The most places of one user.
        self.most_of_user = max(1, math.floor(n_places * share))
        self._busy = busy
        self._lock = threading.Lock()
        self._n_held = 0
        self._held: Counter[uuid.UUID | None] = Counter()

    def take(self, holder: uuid.UUID | None) -> HeldPlace:
        """Take a place for a user, or for a caller without a key.

        Raises
        ------
        TooManyAtOnce
            If the user holds its share.
        ServerBusy
            If all places are held; `TooManyStreams` if they are those of event streams.
        """
        with self._lock:
            if self._n_held >= self._n_places:
                raise self._busy(f"all {self._n_places} {self._kind} of this process are in use")
            if self._held[holder] >= self.most_of_user:
                raise TooManyAtOnce(
                    f"one user may have {self.most_of_user} {self._kind} at once in a process"
                )
            self._n_held += 1
            self._held[holder] += 1
        return HeldPlace(self, holder)

    def held_by(self, holder: uuid.UUID) -> int:
        """Return the number of places that a user holds."""
        return self._held.get(holder, 0)

    def give_back(self, holder: uuid.UUID | None) -> None:
        """Release a place; called by :meth:`HeldPlace.close`."""
        with self._lock:
            self._n_held -= 1
            self._held[holder] -= 1
            if not self._held[holder]:
                del self._held[holder]


class Places:
    """The pools of one process."""

    def __init__(self, settings: Settings) -> None:
        share = settings.user_share
        self.uploads = Pool("uploads", settings.uploads, share=share)
        self.downloads = Pool("downloads", settings.downloads, share=share)
        self.streams = Pool(
            "event streams", settings.event_streams, share=share, busy=TooManyStreams
        )

    def by_name(self) -> dict[str, Pool]:
        """Return the pools by the names of their limits, as in ``GET /v1/usage``."""
        return {
            "uploads": self.uploads,
            "downloads": self.downloads,
            "event_streams": self.streams,
        }


class Transfers:
    """Middleware that takes a place for a request with a body, and for a large or streamed answer.

    The place is given back when the exchange ends.
    """

    def __init__(self, places: Places) -> None:
        self._places = places

    def process_resource(
        self, req: falcon.Request, _resp: falcon.Response, _resource: object, _params: object
    ) -> None:
        """Take a place for an upload before anything of the body is read."""
        # The body of a request that needs no key is never read.
        caller: Principal | None = getattr(req.context, "principal", None)
        if caller is not None and (req.content_length or req.get_header("Transfer-Encoding")):
            exchanges.of(req).place = self._places.uploads.take(caller.user_id)

    def process_response(
        self, req: falcon.Request, resp: falcon.Response, _resource: object, _is_served: bool
    ) -> None:
        """Take a place for a download, unless the exchange holds one already."""
        if resp.data is not None and len(resp.data) > LARGE_BYTES:
            resp.set_stream(_pieces(resp.data), len(resp.data))
            resp.data = None
        exchange = exchanges.of(req)
        if resp.stream is None or req.method == "HEAD" or exchange.place is not None:
            return
        try:
            exchange.place = self._places.downloads.take(exchange.user_id)
        except ServiceError:
            if hasattr(resp.stream, "close"):
                resp.stream.close()
            raise


def _pieces(data: bytes) -> Iterator[bytes]:
    for start in range(0, len(data), PIECE_BYTES):
        yield data[start : start + PIECE_BYTES]
