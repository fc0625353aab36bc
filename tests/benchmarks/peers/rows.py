"""The tables of the Celery programs, as a team would begin: a row a recording, chunk and event."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import DateTime, Engine, ForeignKey, create_engine, func
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from tests.benchmarks.peers.science import Answer

#: Names the database of the Celery programs.
VARIABLE = "PEERS_DATABASE_URL"


class Base(DeclarativeBase):
    """The base of the tables."""

    type_annotation_map = {datetime: DateTime(timezone=True)}  # noqa: RUF012


class Recording(Base):
    """A recording, from its post to its answer."""

    __tablename__ = "recordings"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    path: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp(), index=True)
    finished_at: Mapped[datetime | None] = mapped_column(index=True)
    n_chunks: Mapped[int | None]
    n_scored: Mapped[int] = mapped_column(server_default="0")
    analysis: Mapped[dict[str, Any] | None] = mapped_column(JSONB)


class Chunk(Base):
    """The scores of a chunk."""

    __tablename__ = "chunks"

    recording_id: Mapped[uuid.UUID] = mapped_column(ForeignKey(Recording.id), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    scores: Mapped[bytes]


class FoundEvent(Base):
    """An event."""

    __tablename__ = "events"

    recording_id: Mapped[uuid.UUID] = mapped_column(ForeignKey(Recording.id), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    start_s: Mapped[float]
    end_s: Mapped[float]
    noise_type: Mapped[str] = mapped_column(index=True)
    confidence: Mapped[float]
    laeq_db: Mapped[float | None]
    lafmax_db: Mapped[float | None]
    #: The other columns of a detection.
    further: Mapped[dict[str, Any]] = mapped_column(JSONB)


@cache
def engine() -> Engine:
    """Return the engine of this process."""
    url = os.environ[VARIABLE].replace("postgresql://", "postgresql+psycopg://", 1)
    return create_engine(url, pool_size=1)


@contextmanager
def transaction() -> Iterator[Session]:
    """Yield a session, and commit at the end."""
    with Session(engine()) as session, session.begin():
        yield session


def finish(session: Session, recording: Recording, found: Answer) -> None:
    """Store the answer of a recording."""
    for number, event in enumerate(found.events):
        further = dict(event)
        columns = {
            name: further.pop(name)
            for name in ("start_s", "end_s", "noise_type", "confidence", "laeq_db", "lafmax_db")
        }
        session.add(
            FoundEvent(recording_id=recording.id, number=number, further=further, **columns)
        )
    recording.analysis = found.analysis
    recording.finished_at = session.scalar(func.clock_timestamp())
