"""Fetch recordings from a URL, or from where their owner uploaded them in the blob store.

The recording is copied to a key of the attempt, which the session's row names from then on. So a
worker that was considered dead cannot replace the recording under analysis. An uploaded blob can
be overwritten while its signed URL is valid, so only a copy is reliable.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress

import httpx
import structlog

from actors.execution.failures import ClaimLost, Permanent
from actors.execution.lease import Lease
from actors.execution.runtime import Runtime
from actors.facts import formats
from actors.facts.display_names import attachment_name, display_name
from actors.outbound import errors
from actors.outbound.pinning import ExchangeLimits
from actors.science.errors import UnknownAudioFormat
from db.blobs.errors import BlobMissing
from db.blobs.keys import is_recording, product_key, session_prefix
from db.queries import session_queries
from db.queue.claims import SessionWork
from db.tables.sessions import AudioSession

log = structlog.get_logger(__name__)

#: The longest download, if the deadline of the step leaves that much time. A worker does nothing
#: else meanwhile. At 4 MB/s the largest accepted recording arrives in time.
MOST_S = 600.0
#: A server slower than this is abandoned after half a minute, so that it cannot occupy a worker
#: for ten. A recorder behind a slow uplink sends twice as much.
LEAST_BYTES_S = 50_000.0
#: The share of the step's deadline for fetching.
FETCH_SHARE = 2 / 3

#: The codes of failures that a retry cannot fix.
_CODES: Mapping[type[errors.OutboundError], str] = {
    errors.Refused: "source-refused",
    errors.Missing: "source-not-found",
    errors.Rejected: "source-rejected",
    errors.TooLarge: "source-too-large",
}


def recording(runtime: Runtime, session: AudioSession, work: SessionWork, lease: Lease) -> None:
    """Fetch a session's recording if necessary. ``session`` and its row name it from then on.

    Raises
    ------
    Permanent
        ``source-refused``, ``source-not-found``, ``source-rejected``, ``source-too-large``,
        ``source-too-slow`` or ``source-empty``.
    UnknownAudioFormat
        If the content of a URL does not begin like a recording.
    """
    if session.size_bytes is not None:
        return
    key = product_key(work.session_id, "recording", attempt=lease.attempt)
    arrived = _arrived(runtime, session)
    # An attempt of another time line may have had this number, where a database was restored.
    is_there = key in arrived
    if not is_there:
        lease.own(key)
    size_bytes, file_name = _bring(runtime, session, key, arrived, lease)
    lease.check()
    if not is_there:
        lease.release(key)
    with runtime.store.transaction() as tx:
        held = session_queries.note_brought(
            tx,
            work,
            attempt=lease.attempt,
            key=key,
            size_bytes=size_bytes,
            file_name=file_name,
        )
    if not held:
        if not is_there:
            runtime.blobs.delete(key)
        raise ClaimLost
    if session.source_key:
        _forget(runtime, session.source_key)
    session.recording_key, session.size_bytes, session.file_name = key, size_bytes, file_name


def _arrived(runtime: Runtime, session: AudioSession) -> list[str]:
    """Return the keys of recordings in the session's folder, which its row does not name.

    An attempt brought them whose worker died, or that a restored database does not know. Their
    source may be gone since.
    """
    keys = runtime.blobs.keys(session_prefix(session.id))
    return sorted(key for key in keys if is_recording(key))


def _bring(
    runtime: Runtime, session: AudioSession, key: str, arrived: Sequence[str], lease: Lease
) -> tuple[int, str]:
    """Bring a recording to a key; return its size and its name."""
    file_name = _name(session, "") if session.source_url else session.file_name
    if key in arrived:
        return runtime.blobs.size(key), file_name
    # Copied, since a worker that has lost its claim may be about to remove it.
    if arrived:
        with suppress(BlobMissing):
            return _copy(runtime, arrived[-1], key), file_name
    if session.source_key:
        return _copy(runtime, session.source_key, key), file_name
    return _download(runtime, session, key, lease)


def _download(runtime: Runtime, session: AudioSession, key: str, lease: Lease) -> tuple[int, str]:
    """Download a recording; return its size and its name."""
    assert session.source_url is not None
    limits = ExchangeLimits(
        total_s=min(MOST_S, lease.deadline_s * FETCH_SHARE),
        most_bytes=runtime.settings.max_upload_bytes,
        least_bytes_s=LEAST_BYTES_S,
    )
    try:
        with runtime.outbound.get(session.source_url, limits=limits) as answer:
            answer.require_success()
            counted = _Counted(answer, lease.check)
            runtime.blobs.put(key, counted)
            file_name = _name(session, answer.headers.get("content-disposition", ""))
    except errors.Final as error:
        raise Permanent(_CODES[type(error)], str(error)) from None
    except errors.TookTooLong as error:
        if not error.whole:
            raise
        # The download used up its time, and the next try would have no more.
        raise Permanent("source-too-slow", str(error)) from None
    return counted.n_bytes, file_name


def _name(session: AudioSession, disposition: str) -> str:
    """Return the name of a downloaded recording: the caller's, else the server's, else the URL's.

    A name that is that of the URL was not given by the caller.
    """
    of_url = display_name(httpx.URL(session.source_url or "").path)
    given = session.file_name if session.file_name != of_url else None
    return given or attachment_name(disposition) or of_url


def _copy(runtime: Runtime, source: str, key: str) -> int:
    """Copy a recording in the store; return its size."""
    most_bytes = runtime.settings.max_upload_bytes
    runtime.blobs.copy(source, key)
    # Its owner may have overwritten it since it was checked.
    size_bytes = runtime.blobs.size(key)
    if size_bytes > most_bytes:
        raise Permanent("source-too-large", f"at most {most_bytes} bytes are taken")
    if not size_bytes:
        raise _empty()
    return size_bytes


def _forget(runtime: Runtime, key: str) -> None:
    """Remove an upload that has been copied; ``clean_up`` removes it if this fails."""
    try:
        runtime.blobs.delete(key)
    except Exception as error:
        log.warning("upload_not_removed", key=key, error=type(error).__name__)


def _empty() -> Permanent:
    return Permanent("source-empty", "the recording is empty")


class _Counted:
    """The pieces of a response. Counts bytes, and checks the claim before each piece.

    Also checks that the first bytes are those of a recording: many URLs return a web page instead.
    It raises while the blob store reads, so that the store drops the incomplete blob.
    """

    def __init__(self, pieces: Iterable[bytes], check: Callable[[], object]) -> None:
        self._pieces = pieces
        self._check = check
        self.n_bytes = 0

    def __iter__(self) -> Iterator[bytes]:
        pieces = iter(self._pieces)
        head = b""
        while len(head) < formats.HEAD_BYTES and (piece := next(pieces, b"")):
            self._check()
            head += piece
        if not head:
            raise _empty()
        if formats.container_of(head[: formats.HEAD_BYTES]) is None:
            raise UnknownAudioFormat
        for piece in itertools.chain([head], pieces):
            self._check()
            self.n_bytes += len(piece)
            yield piece
