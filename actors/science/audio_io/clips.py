"""Short clips cut from a recording, for storage or delivery."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from actors.science.audio_io.decoder import Decoder
from actors.science.audio_io.flac import MOST_CHANNELS, writable_hz

#: Sound before and after an event, so that its beginning and end are audible.
MARGIN_S = 0.5
#: Maximum length of a clip: an event may be as long as its recording.
LONGEST_S = 30.0


def cut(decoder: Decoder, events: Sequence[tuple[float, float]]) -> list[NDArray[np.float32]]:
    """Cut clips of some events, as :func:`each` does, and return all of them at once.

    Returns
    -------
    list of numpy.ndarray [shape=(n, n_channels), dtype=float32]
        In the order of the events.
    """
    found = dict(each(decoder, events))
    return [found[index] for index in range(len(events))]


def each(
    decoder: Decoder, events: Sequence[tuple[float, float]]
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Cut clips of some events, with `MARGIN_S` around each, one after the other.

    The recording is decoded once, and only up to the end of the last clip. The buffer extends from
    the start of the first incomplete clip to the decoder's position: it is no longer than the
    longest clip and a block, for any number of clips.

    Parameters
    ----------
    decoder
        An open recording from which nothing has been read.
    events
        ``(start_s, end_s)`` of each event. A clip of an event longer than `LONGEST_S` has only its
        beginning.

    Yields
    ------
    index
        Index of the event.
    samples : numpy.ndarray [shape=(n, n_channels), dtype=float32]
        At the recording's own rate; full scale = 1.0. Empty if the recording ends earlier.
    """
    rate_hz = decoder.format.rate_hz
    waiting = sorted(
        (
            round((min(end_s, start_s + LONGEST_S) + MARGIN_S) * rate_hz),
            max(round((start_s - MARGIN_S) * rate_hz), 0),
            index,
        )
        for index, (start_s, end_s) in enumerate(events)
    )
    held = np.zeros((0, decoder.format.n_channels), np.float32)
    #: Position of the buffer in the recording.
    at = 0
    done = 0
    for block in decoder.blocks(used=()) if waiting else ():
        held = np.concatenate([held, block])
        while done < len(waiting) and waiting[done][0] <= at + len(held):
            stop, start, index = waiting[done]
            yield index, held[start - at : stop - at].copy()
            done += 1
        if done == len(waiting):
            return
        first = min(start for _, start, _ in waiting[done:])
        n_past = min(max(first - at, 0), len(held))
        held, at = held[n_past:].copy(), at + n_past
    # The recording ended inside these clips, or before them.
    for stop, start, index in waiting[done:]:
        yield index, held[max(start - at, 0) : max(stop - at, 0)].copy()


def to_flac(samples: NDArray[np.float32], rate_hz: int, *, used: Sequence[int]) -> bytes:
    """Encode a clip as a 24-bit FLAC file.

    Parameters
    ----------
    samples
        [shape=(n, n_channels)], full scale = 1.0; louder samples are clipped. A rate that FLAC
        cannot have is lowered. Of more than `MOST_CHANNELS` channels the used ones are written
        first, and then as many others as fit.
    used
        Indices of the channels that were analysed; empty if unknown.
    """
    n_channels = samples.shape[1]
    if n_channels > MOST_CHANNELS:
        # The order is stable: used and other channels each keep their order.
        order = sorted(range(n_channels), key=lambda index: index not in used)
        samples = samples[:, order[:MOST_CHANNELS]]
    file = io.BytesIO()
    given_hz, rate_hz = rate_hz, writable_hz(rate_hz)
    if rate_hz != given_hz:
        samples = soxr.resample(samples, given_hz, rate_hz)
    soundfile.write(file, samples, rate_hz, format="FLAC", subtype="PCM_24")
    return file.getvalue()
