"""The decoded audio of a session, in the blob store."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from actors.science.prepare import PCM_BYTES, pcm_to_float
from db.blobs import Blobs


def read(blobs: Blobs, key: str, start: int, stop: int) -> NDArray[np.float32]:
    """Samples ``[start, stop)`` at 16 kHz [shape=(stop - start,)]."""
    data = blobs.get_range(key, start=start * PCM_BYTES, length=(stop - start) * PCM_BYTES)
    return pcm_to_float(data)


def read_padded(
    blobs: Blobs, key: str, start: int, stop: int, *, n_samples: int
) -> NDArray[np.float32]:
    """The same, silent outside the ``n_samples`` that there are."""
    first, last = max(start, 0), min(stop, n_samples)
    return np.pad(read(blobs, key, first, last), (first - start, stop - last))
