"""The obvious Celery program: a task decodes a recording, one scores each chunk, one ends it.

The last chunk's task sends the task that ends the recording. Celery's chords do this too, but those
over a database look once a second whether all tasks have ended: this is the faster way.
"""

from __future__ import annotations

import os
import pickle
import uuid
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select, update

from actors.science.audio_io.prepare import Prepared
from actors.science.detection.chunks import RATE_HZ
from tests.benchmarks.peers import application, rows, science
from tests.benchmarks.peers.rows import Chunk, Recording
from tests.benchmarks.peers.science import Decoded


def split(recording_id: str) -> None:
    """Decode a recording into a shared folder, and send a task for each of its chunks."""
    key = uuid.UUID(recording_id)
    with rows.transaction() as session:
        file = Path(session.get_one(Recording, key).path)
    of = science.decoded(file)
    folder = _folder(file, recording_id)
    np.save(folder / "samples.npy", of.samples)
    (folder / "spectrogram.png").write_bytes(of.picture)
    (folder / "prepared.pickle").write_bytes(pickle.dumps(of.prepared))
    n_chunks = len(range(0, of.prepared.grid.length, _chunk()))
    with rows.transaction() as session:
        session.get_one(Recording, key).n_chunks = n_chunks
    for number in range(n_chunks):
        send_chunk.delay(recording_id, number)


def score(recording_id: str, number: int) -> None:
    """Score a chunk; the last of a recording sends the task that ends it."""
    key = uuid.UUID(recording_id)
    with rows.transaction() as session:
        file = Path(session.get_one(Recording, key).path)
    samples, prepared = _decoded(_folder(file, recording_id))
    start = number * _chunk()
    stop = min(start + _chunk(), prepared.grid.length)
    found = science.scores(samples, prepared, start, stop)
    with rows.transaction() as session:
        session.add(Chunk(recording_id=key, number=number, scores=found.tobytes()))
        session.flush()
        counted = (
            update(Recording)
            .where(Recording.id == key)
            .values(n_scored=Recording.n_scored + 1)
            .returning(Recording.n_scored == Recording.n_chunks)
        )
        is_last = session.scalar(counted)
    if is_last:
        send_end.delay(recording_id)


def end(recording_id: str) -> None:
    """Find the events of a recording whose chunks are scored."""
    key = uuid.UUID(recording_id)
    with rows.transaction() as session:
        file = Path(session.get_one(Recording, key).path)
        chunks = session.scalars(
            select(Chunk.scores).where(Chunk.recording_id == key).order_by(Chunk.number)
        ).all()
    folder = _folder(file, recording_id)
    samples, prepared = _decoded(folder)
    n_classes = len(science.model().classes)
    framewise = np.frombuffer(b"".join(chunks), dtype=np.float32).reshape(-1, n_classes)
    found = science.answer(samples, prepared, framewise)
    picture = (folder / "spectrogram.png").read_bytes()
    of = Decoded(prepared, samples, picture)
    science.write_products(file.parent / "products", recording_id, of, found)
    with rows.transaction() as session:
        rows.finish(session, session.get_one(Recording, key), found)
    for each in folder.iterdir():
        each.unlink()


def _chunk() -> int:
    return round(float(os.environ[application.CHUNK_VARIABLE]) * RATE_HZ)


def _folder(file: Path, recording_id: str) -> Path:
    folder = file.parent / "decoded" / recording_id
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _decoded(folder: Path) -> tuple[NDArray[np.float32], Prepared]:
    # Mapped, so that a chunk reads its own samples only.
    samples = np.load(folder / "samples.npy", mmap_mode="r")
    prepared: Prepared = pickle.loads((folder / "prepared.pickle").read_bytes())  # noqa: S301
    return samples, prepared


app = application.create()
send = app.task(name="peers.split")(split)
send_chunk = app.task(name="peers.score")(score)
send_end = app.task(name="peers.end")(end)
