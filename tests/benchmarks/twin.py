"""Clamor's twin for ``make bench-api``: two of its endpoints in the style of FastAPI's tutorial.

It does the same work over the same stores: it looks up the caller's key, assigns a request ID,
stores the recording, writes the row, sends the nudge and answers with the same JSON, with equally
few statements. The blob store, the publisher and the hashing of keys are Clamor's code, so that
only serving and database access are compared. The twin leaves out Clamor's rate limits, request
log, log lines and metrics.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Request, Response, UploadFile
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel
from sqlalchemy import select
from sqlalchemy.orm import Session as DatabaseSession
from sqlalchemy.orm import sessionmaker

from actors.messaging import broker
from actors.messaging.broker import Publisher
from actors.messaging.messages import ProcessAudioFile
from actors.observability.logs import configure
from db.blobs.blob_store import Blobs
from db.blobs.keys import recording_key
from db.engine import make_engine
from db.queries import account_queries, session_queries
from db.queries.session_view_queries import SESSION_VIEW, SessionView
from db.settings import from_environment
from db.tables.accounts import ApiKey, User
from db.tables.sessions import PRIORITIES, AudioSession
from services.api.sessions.progress import Progress
from services.app import SERVER_THREADS
from services.http import keys

settings = from_environment()
configure("WARNING")
engine = make_engine(settings.database_url, pool_size=SERVER_THREADS, pool_pre_ping=True)
make_session = sessionmaker(engine, expire_on_commit=False)
blobs = Blobs(settings.blob_url)
publisher = Publisher(broker.setup(settings), prefix=settings.queue_prefix)
hasher = keys.Hasher(settings.key_pepper)
app = FastAPI()


class Session(BaseModel):
    """The API's response as a pydantic model."""

    id: uuid.UUID
    state: str
    stage: str
    percent: int
    speed: float | None
    time_left_s: float | None
    file_name: str
    size_bytes: int
    container: str | None
    codec: str | None
    rate_hz: int | None
    n_channels: int | None
    duration_s: float | None
    calibration_db: float | None
    calibration_tone_db: float | None
    bands: str | None
    priority: str
    batch_id: uuid.UUID | None
    spans_total: int
    spans_finished: int
    spans_failed: int
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    summary: dict[str, Any] | None
    problem: dict[str, Any] | None


@app.middleware("http")
async def name_request(
    request: Request, call_next: Callable[[Request], Awaitable[Response]]
) -> Response:
    """Give every response an ID."""
    response = await call_next(request)
    response.headers["X-Request-ID"] = request.headers.get("X-Request-ID") or uuid.uuid4().hex
    return response


def get_db() -> Iterator[DatabaseSession]:
    """Provide a database session for one request."""
    with make_session() as tx:
        yield tx


Db = Annotated[DatabaseSession, Depends(get_db)]


def get_user(
    shown: Annotated[HTTPAuthorizationCredentials, Depends(HTTPBearer())], tx: Db
) -> uuid.UUID:
    """Return the user ID of a request's key."""
    key = keys.parse(shown.credentials)
    if key is None:
        raise HTTPException(401)
    found = tx.execute(
        select(ApiKey, User.disabled_at, account_queries.is_active())
        .join(User, User.id == ApiKey.user_id)
        .where(ApiKey.id == key.id)
    ).one_or_none()
    if found is None:
        raise HTTPException(401)
    row, disabled_at, is_active = found
    if not hasher.fits(key, row.secret_hash) or disabled_at or not is_active:
        raise HTTPException(401)
    user_id: uuid.UUID = row.user_id
    return user_id


Caller = Annotated[uuid.UUID, Depends(get_user)]


def shown(tx: DatabaseSession, session_id: uuid.UUID, owner: uuid.UUID) -> Session:
    """Return a session of an owner, also in one statement."""
    found = tx.execute(
        SESSION_VIEW.where(AudioSession.id == session_id, AudioSession.user_id == owner)
    ).one_or_none()
    if found is None:
        raise HTTPException(404)
    row = SessionView(*found)
    reckoned = asdict(Progress.of(row, now=row.now)) | {
        "priority": PRIORITIES[row.priority],
        "summary": row.summary and json.loads(row.summary),
        "problem": row.problem and json.loads(row.problem),
    }
    return Session(
        **reckoned,
        **{name: getattr(row, name) for name in Session.model_fields if name not in reckoned},
    )


@app.get("/v1/sessions/{session_id}")
def read_session(session_id: uuid.UUID, caller: Caller, tx: Db) -> Session:
    """Return the current state of a session."""
    return shown(tx, session_id, caller)


@app.post("/v1/sessions", status_code=202)
def create_session(file: UploadFile, caller: Caller, tx: Db) -> Session:
    """Accept a recording."""
    session_id = uuid.uuid4()
    key = recording_key(session_id)
    blobs.put(key, iter(lambda: file.file.read(256 * 1024), b""))
    session_queries.add_session(
        tx,
        id=session_id,
        user_id=caller,
        file_name=file.filename or "recording",
        size_bytes=file.size or 0,
        recording_key=key,
    )
    tx.commit()
    publisher.send(ProcessAudioFile(session_id=session_id))
    return shown(tx, session_id, caller)


assert os.environ.get("WEB_CONCURRENCY", "1") == "1"
