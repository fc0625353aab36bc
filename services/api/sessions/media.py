"""``/v1/sessions/{session_id}/recording`` and ``.../spectrogram.png``."""

from __future__ import annotations

import io
import re
import uuid

import falcon

from db.queries import removal_queries
from db.tables.sessions import DISCARD_AUDIO, KEEP, UNFINISHED_STATES, AudioSession
from services.api.common import sessions
from services.api.common.errors import NotFinished, UnderLegalHold
from services.api.sessions.errors import (
    NoRecording,
    NoSpectrogram,
    RangeNotSatisfiable,
)
from services.http import responses
from services.http.access import owner
from services.http.not_found import NotFound
from services.http.operations import operation
from services.http.resource import Resource
from services.http.responses import FileRange, if_missing

#: Media types of the containers as browsers name them; `UNKNOWN_TYPE` until one is recognised.
MEDIA_TYPES = {
    "wav": "audio/wav",
    "rf64": "audio/wav",
    "w64": "audio/x-w64",
    "aiff": "audio/aiff",
    "flac": "audio/flac",
    "ogg": "audio/ogg",
    "mp3": "audio/mpeg",
    "mp4": "audio/mp4",
    "aac": "audio/aac",
    "webm": "audio/webm",
}
UNKNOWN_TYPE = "application/octet-stream"

_UNQUOTED = str.maketrans('"\\', "__")

#: A single range: ``first-last``, ``first-`` or ``-n``. Any other header value is ignored and the
#: whole file returned, as RFC 9110, 14.2 permits.
_RANGE = re.compile(r"\s*bytes\s*=\s*(?:([0-9]{1,18})\s*-\s*([0-9]{0,18})|-\s*([0-9]{1,18}))\s*")


class SessionRecording(Resource):
    """``/v1/sessions/{session_id}/recording``."""

    @operation(
        scope="sessions:read",
        media="audio/*",
        also={206: bytes, 304: None},
        problems=(
            NotFound.of("session"),
            NotFinished,
            NoRecording,
            RangeNotSatisfiable,
        ),
    )
    def on_get(self, req: falcon.Request, resp: falcon.Response, session_id: uuid.UUID) -> None:
        """Download the recording exactly as uploaded, or the part that ``Range`` requests.

        With ``privacy=mute`` it is a FLAC file in which speech is replaced by noise, available once
        the session has finished. With ``privacy=discard_audio`` there is no recording.
        """
        with self.deps.store.reading() as tx:
            session = sessions.get_or_404(tx, session_id, owner=owner(req))
        require_served(session, NoRecording)
        if session.size_bytes is None and session.state in UNFINISHED_STATES:
            raise NotFinished("the recording has not been fetched yet")
        if session.size_bytes is None:
            raise NoRecording(f"the session is {session.state}, and its recording was not fetched")
        # A recording never changes.
        tag = str(session_id)
        resp.set_header("Accept-Ranges", "bytes")
        if responses.is_current(req, resp, tag=tag):
            return
        assert session.served_key is not None
        with if_missing(NoRecording("the recording is no longer stored")):
            stored = self.deps.blobs.open(session.served_key)
        is_as_sent = session.privacy == KEEP
        size_bytes = session.size_bytes if is_as_sent else stored.seek(0, io.SEEK_END)
        start, stop = 0, size_bytes
        asked = _part(req, size_bytes=stop, tag=tag)
        if asked is not None:
            start, stop = asked
            resp.status = falcon.HTTP_206
            resp.content_range = (start, stop - 1, size_bytes)
        container, file_name = session.container, session.file_name
        if not is_as_sent:
            container, file_name = "flac", f"{file_name.rpartition('.')[0] or file_name}.flac"
        resp.content_type = MEDIA_TYPES.get(container or "", UNKNOWN_TYPE)
        # Falcon escapes everything except characters that would end the quoted name.
        resp.downloadable_as = file_name.translate(_UNQUOTED)
        resp.set_stream(FileRange(stored, start, stop), stop - start)

    @operation(
        scope="sessions:write",
        status=204,
        problems=(NotFound.of("session"), NotFinished, UnderLegalHold),
    )
    def on_delete(self, req: falcon.Request, resp: falcon.Response, session_id: uuid.UUID) -> None:
        """Delete the recording and the spectrogram of a finished session, and exported clips of it;
        keep its results. From then on it is a session with ``privacy=discard_audio``. Repeating
        the call changes nothing.

        Workers remove the stored files within seconds of the answer.
        """
        with self.deps.store.transaction() as tx:
            session = sessions.get_or_404(tx, session_id, owner=owner(req), is_locked=True)
            if session.legal_hold:
                raise UnderLegalHold(f"the session {session_id} is under legal hold")
            if session.state in UNFINISHED_STATES:
                raise NotFinished(f"the session is {session.state}")
            if session.privacy != DISCARD_AUDIO:
                removal_queries.discard_audio(tx, session_id)
        resp.status = falcon.HTTP_204


class SessionSpectrogram(Resource):
    """``GET /v1/sessions/{session_id}/spectrogram.png``."""

    @operation(
        scope="sessions:read",
        media=falcon.MEDIA_PNG,
        also={304: None},
        problems=(NotFound.of("session"), NotFinished, NoSpectrogram),
    )
    def on_get(self, req: falcon.Request, resp: falcon.Response, session_id: uuid.UUID) -> None:
        """Return the spectrogram of the whole recording, available once it is decoded.

        Time runs from left to right, frequency from 40 Hz at the bottom to 8 kHz at the top on a
        logarithmic scale. With ``privacy=mute`` it shows noise in place of speech and is available
        once the session has finished. With ``privacy=discard_audio`` there is no spectrogram.
        """
        with self.deps.store.reading() as tx:
            session = sessions.get_or_404(tx, session_id, owner=owner(req))
        require_served(session, NoSpectrogram)
        key = session.spectrogram_key
        if key is None and session.state in UNFINISHED_STATES:
            raise NotFinished("the recording has not been decoded yet")
        if key is None:
            raise NoSpectrogram(f"the session is {session.state}, and no spectrogram was drawn")
        if responses.is_current(req, resp, tag=key.rpartition("/")[2]):
            return
        resp.content_type = falcon.MEDIA_PNG
        with if_missing(NoSpectrogram("the spectrogram is no longer stored")):
            resp.data = self.deps.blobs.get(key)


def require_served(session: AudioSession, error: type[NoRecording] | type[NoSpectrogram]) -> None:
    """Refuse to serve audio or the spectrogram if the session's privacy forbids it.

    Raises
    ------
    NotFinished
        Until the session has finished and its privacy is applied.
    NoRecording, NoSpectrogram
        The given ``error``, if no audio is left.
    """
    if session.privacy == KEEP:
        return
    if session.state in UNFINISHED_STATES:
        raise NotFinished(
            f"with privacy={session.privacy}, the recording is not available until the session has"
            " finished"
        )
    if session.served_key is None:
        raise error(
            f"the session is {session.state}; with privacy={session.privacy}, its recording was not"
            " kept"
        )


def _part(req: falcon.Request, *, size_bytes: int, tag: str) -> tuple[int, int] | None:
    """Return the requested range as ``(start, stop)``, ``stop`` exclusive; None for the whole.

    Raises
    ------
    RangeNotSatisfiable
        If the range contains no byte of the recording.
    """
    # Of other methods, a range is ignored (RFC 9110, 14.2).
    given = req.get_header("Range") if req.method == "GET" else None
    asked = _RANGE.fullmatch(given or "")
    if asked is None or (req.get_header("If-Range") or f'"{tag}"') != f'"{tag}"':
        return None
    first, last, n_last = asked.groups()
    if n_last is not None:
        start, stop = max(size_bytes - int(n_last), 0), size_bytes
    else:
        start, stop = int(first), min(int(last or size_bytes) + 1, size_bytes)
        if last and int(last) < start:
            return None
    if start >= stop:
        raise RangeNotSatisfiable(f"the recording has {size_bytes} bytes", size_bytes=size_bytes)
    return start, stop
