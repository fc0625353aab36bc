"""Short clips cut from a recording, to be kept or sent on."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import soundfile
from numpy.typing import NDArray

from actors.science.decode import Decoder

#: Sound before and after an event, so that a listener hears where it begins and ends.
MARGIN_S = 0.5
#: No clip is longer: an event may last as long as its recording.
LONGEST_S = 30.0


def cut(decoder: Decoder, events: Sequence[tuple[float, float]]) -> list[NDArray[np.float32]]:
    """Cut clips of some events, with `MARGIN_S` around each.

    The recording is decoded once, and only up to the end of the last clip.

    Parameters
    ----------
    decoder
        An open recording that nothing was read of.
    events
        ``(start_s, end_s)`` of each event. Of one that is longer than `LONGEST_S` its beginning is
        taken.

    Returns
    -------
    list of numpy.ndarray [shape=(n, n_channels), dtype=float32]
        In the order of the events, at the recording's own rate; full scale = 1.0. Empty where the
        recording ends before.
    """
    rate_hz = decoder.format.rate_hz
    stretches = [
        (
            max(round((start_s - MARGIN_S) * rate_hz), 0),
            round((min(end_s, start_s + LONGEST_S) + MARGIN_S) * rate_hz),
        )
        for start_s, end_s in events
    ]
    pieces: list[list[NDArray[np.float32]]] = [[] for _ in stretches]
    last = max((stop for _, stop in stretches), default=0)
    at = 0
    for block in decoder.blocks():
        for (start, stop), found in zip(stretches, pieces, strict=True):
            piece = block[max(start - at, 0) : max(stop - at, 0)]
            if len(piece):
                found.append(piece.copy())
        at += len(block)
        if at >= last:
            break
    empty = np.zeros((0, decoder.format.n_channels), np.float32)
    return [np.concatenate(found) if found else empty for found in pieces]


def to_flac(samples: NDArray[np.float32], rate_hz: int) -> bytes:
    """A clip as a FLAC file of 24 bits.

    Parameters
    ----------
    samples
        [shape=(n, n_channels)], full scale = 1.0; what is louder is clipped.
    """
    file = io.BytesIO()
    # FLAC knows no more than eight channels.
    soundfile.write(file, samples[:, :8], rate_hz, format="FLAC", subtype="PCM_24")
    return file.getvalue()
