"""Read the detections of an export from the database, piece by piece, in bounded memory."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from actors.analytics.formats.rows import ExportedRecording
from db.queries import export_queries
from db.queries.export_queries import DetectionSelection, ExportedEvent, ExportedSession, Place
from db.store import Store
from db.tables.sessions import level_reference

#: How many sessions, and detections, are held in memory at once.
PAGE_SESSIONS = 500
PAGE_EVENTS = 5_000


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Some detections of one recording."""

    recording: ExportedRecording
    #: The blob to cut clips from; None if there is none.
    audio_key: str | None
    events: Sequence[ExportedEvent]
    #: The share of the export that is done with this piece.
    share: float


class Selected:
    """The detections of a selection."""

    def __init__(
        self, store: Store, selection: DetectionSelection, *, with_candidates: bool
    ) -> None:
        self._store = store
        self._selection = selection
        self._with_candidates = with_candidates
        with store.reading() as tx:
            self.n_sessions = export_queries.count_sessions(tx, selection)
        self._n_done = 0

    def pieces(self) -> Iterator[Piece]:
        """Yield the detections, recording by recording, the oldest first.

        A recording without detections gives one empty piece; one with many gives several.
        """
        for page in self._sessions():
            counts = self._counts(page)
            few: list[ExportedSession] = []
            n_few = 0
            for row in page:
                n_events = counts.get(row.id, 0)
                if n_few + n_events > PAGE_EVENTS:
                    yield from self._of_few(few)
                    few, n_few = [], 0
                if n_events > PAGE_EVENTS:
                    yield from self._of_one(row, n_events)
                else:
                    few.append(row)
                    n_few += n_events
            yield from self._of_few(few)

    def count_events(self, *, up_to: int) -> int:
        """Count the detections; stop at the first page of sessions that exceeds ``up_to``."""
        n_events = 0
        for page in self._sessions():
            n_events += sum(self._counts(page).values())
            if n_events > up_to:
                break
        return n_events

    def _sessions(self) -> Iterator[Sequence[ExportedSession]]:
        after: Place | None = None
        while True:
            with self._store.reading() as tx:
                page = export_queries.sessions_behind(
                    tx, self._selection, after, limit=PAGE_SESSIONS
                )
            if page:
                yield page
            if len(page) < PAGE_SESSIONS:
                return
            after = page[-1].created_at, page[-1].id

    def _counts(self, page: Sequence[ExportedSession]) -> Mapping[uuid.UUID, int]:
        with self._store.reading() as tx:
            return export_queries.count_events(tx, self._selection, [row.id for row in page])

    def _of_few(self, rows: Sequence[ExportedSession]) -> Iterator[Piece]:
        """Yield pieces of sessions that fit into one page of detections together."""
        if not rows:
            return
        with self._store.reading() as tx:
            found = export_queries.events_of(
                tx,
                self._selection,
                [row.id for row in rows],
                with_candidates=self._with_candidates,
            )
        for row in rows:
            self._n_done += 1
            yield self._piece(row, found[row.id], done=0.0)

    def _of_one(self, row: ExportedSession, n_events: int) -> Iterator[Piece]:
        """Yield pieces of a session with more than a page of detections."""
        after, n_read = -1, 0
        while True:
            with self._store.reading() as tx:
                page = export_queries.events_behind(
                    tx,
                    self._selection,
                    row.id,
                    after,
                    limit=PAGE_EVENTS,
                    with_candidates=self._with_candidates,
                )
            n_read += len(page)
            if page:
                yield self._piece(row, page, done=min(n_read / n_events, 1.0))
            if len(page) < PAGE_EVENTS:
                self._n_done += 1
                return
            after = page[-1].event_index

    def _piece(
        self, row: ExportedSession, events: Sequence[ExportedEvent], *, done: float
    ) -> Piece:
        recording = ExportedRecording(
            session_id=row.id,
            file_name=row.file_name,
            recorded_at=row.recorded_at,
            rate_hz=row.rate_hz,
            used=row.used or (),
            level_reference=level_reference(row.calibration_db),
        )
        return Piece(
            recording=recording,
            audio_key=row.served_key,
            events=events,
            share=min((self._n_done + done) / max(self.n_sessions, 1), 1.0),
        )
