"""Replacement of speech in a recording by noise of the same third-octave bands and level.

The noise is stationary for parts of about a second. Noise that follows speech more closely would be
intelligible: four bands suffice if they follow its envelope, whose changes between 2 and 16 Hz
carry the words (R. V. Shannon et al., "Speech Recognition with Primarily Temporal Cues", Science
270, 1995).
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.fft
from numpy.typing import NDArray

Block = NDArray[np.float32]

#: Duration of stationary noise. It must not be much shorter: see above.
PART_S = 1.0

#: Crossfade between recording and noise, inside the replaced interval.
FADE_S = 0.02

#: The third-octave band of 20 Hz, relative to that of 1 kHz; lower frequencies are one band.
_LOWEST_BAND = -17


@dataclass(frozen=True)
class _Part:
    """Frames ``[start, stop)`` that are replaced by stationary noise."""

    start: int
    stop: int
    #: Lengths in frames of the crossfades at its beginning and its end.
    fade_in: int
    fade_out: int


def muted(
    blocks: Iterable[Block],
    intervals: Sequence[tuple[float, float]],
    *,
    rate_hz: int,
    seed: int = 0,
) -> Iterator[Block]:
    """Replace intervals of a recording by noise.

    Parameters
    ----------
    blocks
        The recording [shape=(n, n_channels)], from its beginning to its end.
    intervals
        ``(start_s, end_s)`` in order of time; they do not overlap. They may extend beyond the
        recording.
    rate_hz
        Its sample rate.
    seed
        Seed of the noise; the same recording and seed give the same audio.

    Yields
    ------
    numpy.ndarray [shape=(n, n_channels), dtype=float32]
        As many frames as in the input, unchanged outside the intervals. Inside, each part of about
        `PART_S` has the energy of the original in each third-octave band and channel. The noise is
        the same in all channels, so that identical channels stay identical.
    """
    rng = np.random.default_rng(seed)
    waiting = deque(_parts(intervals, rate_hz))
    held: Block | None = None
    at = 0
    for block in blocks:
        held = block if held is None or not len(held) else np.concatenate([held, block])
        while len(held):
            n = len(held)
            if waiting and waiting[0].start <= at:
                if at + n < waiting[0].stop:
                    break
                part = waiting.popleft()
                n = part.stop - at
                yield _replaced(held[:n], part, rate_hz=rate_hz, rng=rng)
            else:
                n = n if not waiting else min(n, waiting[0].start - at)
                yield held[:n]
            held, at = held[n:], at + n
    # The recording ended inside this part.
    if held is not None and len(held):
        yield _replaced(held, waiting[0], rate_hz=rate_hz, rng=rng)


def noise_like(samples: Block, *, rate_hz: int, rng: np.random.Generator) -> Block:
    """Make noise with the energy of samples [shape=(n, n_channels)] in each third-octave band."""
    n = len(samples)
    spectrum = scipy.fft.rfft(samples, axis=0)
    # An offset is not speech, and its sign would be random: it is kept.
    offset, spectrum[0] = spectrum[0].copy(), 0.0
    white = scipy.fft.rfft(rng.standard_normal(n).astype(np.float32))
    white[0] = 0.0
    bands = _bands(n, rate_hz)
    of_white = np.maximum(np.bincount(bands, np.abs(white) ** 2), np.finfo(np.float32).tiny)
    shaped = np.empty_like(spectrum)
    for channel in range(spectrum.shape[1]):
        wanted = np.bincount(bands, np.abs(spectrum[:, channel]) ** 2)
        shaped[:, channel] = white * np.sqrt(wanted / of_white)[bands]
    shaped[0] = offset
    noise: Block = scipy.fft.irfft(shaped, n, axis=0).astype(np.float32)
    return noise


def _bands(n: int, rate_hz: int) -> NDArray[np.intp]:
    """Return the third-octave band (IEC 61260-1) of each bin of a spectrum, from the lowest."""
    hz = np.maximum(scipy.fft.rfftfreq(n, 1 / rate_hz), np.finfo(np.float64).tiny)
    band = np.floor(10.0 * np.log10(hz / 1_000.0) + 0.5)
    return (np.maximum(band, _LOWEST_BAND) - _LOWEST_BAND).astype(np.intp)


def _parts(intervals: Sequence[tuple[float, float]], rate_hz: int) -> Iterator[_Part]:
    fade = round(FADE_S * rate_hz)
    for start_s, end_s in intervals:
        start, stop = max(0, int(start_s * rate_hz)), int(np.ceil(end_s * rate_hz))
        n_parts = max(1, round((stop - start) / rate_hz / PART_S))
        edges = np.linspace(start, stop, n_parts + 1).round().astype(int).tolist()
        for index, (first, last) in enumerate(itertools.pairwise(edges)):
            yield _Part(
                first,
                last,
                fade_in=fade if index == 0 and first > 0 else 0,
                fade_out=fade if index == n_parts - 1 else 0,
            )


def _replaced(samples: Block, part: _Part, *, rate_hz: int, rng: np.random.Generator) -> Block:
    """Return the noise for a part, which may be cut off by the end of the recording."""
    noise = noise_like(samples, rate_hz=rate_hz, rng=rng)
    n_in, n_out = min(part.fade_in, len(samples)), part.fade_out
    if n_in:
        noise[:n_in] = _crossfade(samples[:n_in], noise[:n_in])
    if n_out and len(samples) == part.stop - part.start:
        noise[-n_out:] = _crossfade(noise[-n_out:], samples[-n_out:])
    return noise


def _crossfade(first: Block, second: Block) -> Block:
    """Crossfade two sounds with constant power, since they are uncorrelated."""
    angle = np.linspace(0.0, np.pi / 2, len(first))[:, None]
    mixed: Block = (np.cos(angle) * first + np.sin(angle) * second).astype(np.float32)
    return mixed
