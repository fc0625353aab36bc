"""The pipeline in this process, step by step, over a real Postgres."""

from __future__ import annotations

import uuid
from typing import Any

import falcon.testing
from sqlalchemy.orm import Session

from actors import worker
from actors.execution.runtime import Runtime
from actors.messaging.messages import Nudge, ProcessAudioFile, SplitRecording
from actors.recovery import nudge_for, take_stalled
from db.blobs import recording_key
from db.queries import list_queries, session_queries
from db.tables.sessions import AudioSession, NoiseDetection, SessionSpan
from services.app import Deps, create_app
from tests.support import accounts


def api_of(runtime: Runtime) -> falcon.testing.TestClient:
    """A team's client of an API over a worker's own collaborators."""
    return accounts.client(
        create_app(
            Deps(
                settings=runtime.settings,
                store=runtime.store,
                blobs=runtime.blobs,
                publisher=runtime.publisher,
            )
        )
    )


def add(runtime: Runtime, content: bytes, **values: Any) -> uuid.UUID:
    """A session as an upload leaves it, with what it was posted with."""
    session_id = uuid.uuid4()
    runtime.blobs.put(recording_key(session_id), content)
    with runtime.store.transaction() as db:
        session_queries.add_session(
            db,
            id=session_id,
            user_id=accounts.TEAM,
            file_name="a.flac",
            size_bytes=len(content),
            recording_key=recording_key(session_id),
            **values,
        )
    return session_id


def detections_of(db: Session, session_id: uuid.UUID) -> list[NoiseDetection]:
    """A session's events in the order of their onsets."""
    page = list_queries.detections(
        db, session_id, order=list_queries.DETECTIONS["start_s"], after=None, limit=1_000
    )
    return [row[0] for row in page.rows]


def session(runtime: Runtime, session_id: uuid.UUID) -> AudioSession:
    """A session as it stands."""
    with runtime.store.transaction() as db:
        found = session_queries.get_session(db, session_id)
    assert found is not None
    return found


def span(runtime: Runtime, session_id: uuid.UUID, index: int) -> SessionSpan:
    """A span as it stands."""
    with runtime.store.transaction() as db:
        found = session_queries.get_span(db, session_id, index)
    assert found is not None
    return found


def handle(runtime: Runtime, nudge: Nudge) -> None:
    """Let the actor of a message handle it."""
    [handler] = [entry.handle for entry in worker.ACTORS if entry.nudge is type(nudge)]
    handler(runtime, nudge)


def split(runtime: Runtime, content: bytes) -> uuid.UUID:
    """A session whose spans wait to be heard."""
    session_id = add(runtime, content)
    handle(runtime, ProcessAudioFile(session_id=session_id))
    handle(runtime, SplitRecording(session_id=session_id))
    assert session(runtime, session_id).state == "detecting"
    return session_id


def run_to_the_end(runtime: Runtime, session_id: uuid.UUID) -> AudioSession:
    """Handle every nudge twice, in the order in which the rows ask for it, until none is left."""
    for _ in range(20):
        with runtime.store.transaction() as db:
            found = take_stalled(db, quiet_s=0, limit=100)
        for nudge in [nudge_for(work) for work in found] * 2:
            handle(runtime, nudge)
        if not found:
            break
    return session(runtime, session_id)
