"""The decoded audio of a session, in the blob store."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from actors.audio import stored_pcm
from actors.audio.stored_pcm import StoredPcm
from actors.execution.lease import Lease
from actors.science.audio_io.prepare import pcm_to_float
from actors.science.detection import filling
from actors.science.detection.chunks import RATE_HZ, Grid
from actors.science.detection.holes import Interval
from actors.science.detection.segment_views import Read
from actors.science.detection.tagging.backbone import RATE_HZ as WIDE_RATE_HZ
from actors.science.summaries.intervals import Intervals
from db.blobs.blob_store import Blobs
from db.blobs.errors import BlobMissing
from db.tables.sessions import AudioSession

#: Samples per read when the whole recording is read.
BLOCK = 60 * RATE_HZ


def grid_of(session: AudioSession) -> Grid:
    """Return the grid that ``split`` gave a session."""
    assert session.n_samples
    return Grid(session.n_samples, lead=session.grid_lead)


def holes_of(session: AudioSession) -> list[Interval]:
    """Return the intervals of a session in which nothing is recorded, in order and apart."""
    assert session.duration_s is not None
    holes = session.holes or ()
    found = Intervals.union(
        np.array([hole["start_s"] for hole in holes]),
        np.array([hole["end_s"] for hole in holes]),
        duration_s=session.duration_s,
    )
    return list(zip(found.start_s.tolist(), found.end_s.tolist(), strict=True))


def reader(blobs: Blobs, session: AudioSession, lease: Lease) -> Read:
    """Return a reader of the session's samples at 16 kHz, for detection: with its holes filled.

    The samples are padded with silence at both ends. Each read checks the claim first, as the audio
    is read piece by piece.
    """
    assert session.n_samples
    read = _narrow(blobs, session, lease)
    return filling.filled(read, holes_of(session), n_samples=session.n_samples, rate_hz=RATE_HZ)


def blocks(blobs: Blobs, session: AudioSession, lease: Lease) -> Iterator[NDArray[np.float32]]:
    """Yield the samples of a session at 16 kHz as they are stored, piece by piece."""
    assert session.n_samples
    read = _narrow(blobs, session, lease)
    for start in range(0, session.n_samples, BLOCK):
        yield read(start, min(start + BLOCK, session.n_samples))


def wide_reader(
    blobs: Blobs, session: AudioSession, lease: Lease, *, with_filled_holes: bool
) -> tuple[Read, int]:
    """Return a reader of the session's samples at 32 kHz, and their number.

    Otherwise as `reader`; without filled holes as they are stored.
    """
    assert session.wide_pcm_key
    pcm = stored_pcm.opened(blobs, session.wide_pcm_key)
    holes = holes_of(session) if with_filled_holes else []
    read = filling.filled(_reader(pcm, lease), holes, n_samples=pcm.n_samples, rate_hz=WIDE_RATE_HZ)
    return read, pcm.n_samples


def _narrow(blobs: Blobs, session: AudioSession, lease: Lease) -> Read:
    assert session.pcm_key
    pcm = stored_pcm.opened(blobs, session.pcm_key)
    if pcm.n_samples != session.n_samples:
        raise BlobMissing(session.pcm_key)
    return _reader(pcm, lease)


def _reader(pcm: StoredPcm, lease: Lease) -> Read:
    def read(start: int, stop: int) -> NDArray[np.float32]:
        lease.check()
        first, last = max(start, 0), min(stop, pcm.n_samples)
        return np.pad(pcm_to_float(pcm.read(first, last)), (first - start, stop - last))

    return read
