"""``/v1/detections/{detection_id}/clip.flac``: the audio of one detection.

Clips are cut by workers, as exports of a format of their own: the first request asks for the clip,
and one that follows soon gets it. It is kept for a day, and no longer than its session.
"""

from __future__ import annotations

import uuid
from datetime import timedelta
from io import BufferedReader

import falcon

from actors.messaging.messages import ExportSessionData
from actors.observability import tracing
from db.blobs.errors import BlobMissing
from db.queries import clip_queries, detection_queries, session_queries
from db.tables.exports import Export
from db.tables.sessions import AudioSession
from services.api.common import sessions
from services.api.sessions.errors import ClipNotReady, NoClip, NoRecording
from services.api.sessions.media import MEDIA_TYPES, require_served
from services.http import responses
from services.http.access import owner
from services.http.not_found import NotFound, or_404
from services.http.operations import operation
from services.http.resource import Resource
from services.http.responses import FileRange

#: How long a clip is kept.
KEPT = timedelta(days=1)


class DetectionClip(Resource):
    """``GET /v1/detections/{detection_id}/clip.flac``."""

    @operation(
        scope="sessions:read",
        media=MEDIA_TYPES["flac"],
        also={304: None},
        problems=(NotFound.of("detection"), NoRecording, NoClip, ClipNotReady),
    )
    def on_get(self, req: falcon.Request, resp: falcon.Response, detection_id: uuid.UUID) -> None:
        """Return the audio of a detection with half a second before and after it, at most its first
        30 seconds, as a 24-bit FLAC file with all channels, at most eight.

        The first request returns 409 ``clip-not-ready`` while a worker cuts the clip; repeat it
        after ``Retry-After`` seconds. With ``privacy=mute`` speech is replaced by noise.
        """
        with self.deps.store.reading() as tx:
            row = detection_queries.get_detection(tx, detection_id, owner=owner(req))
            detection = or_404(row, "detection", detection_id)[0]
            session = sessions.get_or_404(tx, detection.session_id, owner=owner(req))
            clip = clip_queries.get_clip(tx, detection_id)
        require_served(session, NoRecording)
        # The same recording and interval give the same clip.
        if responses.is_current(req, resp, tag=str(detection_id)):
            return
        if clip is not None and clip.problem is not None:
            raise NoClip(clip.problem["detail"])
        stored = self._open(clip)
        if clip is None or clip.size_bytes is None or stored is None:
            self._ask_for(session, detection_id)
            raise ClipNotReady("a worker is cutting the clip")
        resp.content_type = MEDIA_TYPES["flac"]
        resp.downloadable_as = f"{session.id}-{detection.event_index:05}.flac"
        resp.set_stream(FileRange(stored, 0, clip.size_bytes), clip.size_bytes)

    def _open(self, clip: Export | None) -> BufferedReader | None:
        if clip is None or clip.blob_key is None:
            return None
        try:
            return self.deps.blobs.open(clip.blob_key)
        except BlobMissing:
            return None

    def _ask_for(self, session: AudioSession, detection_id: uuid.UUID) -> None:
        """Request a clip, unless it is requested already."""
        with self.deps.store.transaction() as tx:
            is_new = clip_queries.ask_for_clip(
                tx,
                detection_id,
                session=session,
                expires_at=session_queries.clock(tx) + KEPT,
                traceparent=tracing.current(),
            )
        # Recovery repeats a message that is lost.
        if is_new:
            self.deps.publisher.send(ExportSessionData(export_id=detection_id))
