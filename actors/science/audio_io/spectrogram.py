"""The spectrogram of a recording, in bounded memory: band powers over time, and their image."""

from __future__ import annotations

import math
import struct
import zlib
from functools import cache

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from actors.science.detection.chunks import RATE_HZ

Samples = NDArray[np.float32]

#: Maximum number of columns; a long recording has at least half as many. More than a screen shows
#: would be wasted.
MOST_COLUMNS = 2_000

#: Bands, evenly spaced on a logarithmic axis.
N_BANDS = 128
LOWEST_HZ, HIGHEST_HZ = 40.0, 8_000.0

#: Range of the colours below the maximum, in dB.
DYNAMIC_DB = 75.0

#: Window and hop at 16 kHz: 64 ms separate the harmonics of mains hum. They are chosen for speed:
#: the image may take 2 % of the processing time of a recording.
_N_FFT = 1_024
_HOP = 1_000
#: Samples per batch: a call costs as much as some dozen frames.
_BATCH = 8 * RATE_HZ

#: Floor of the power, and the same in dB.
_FLOOR, _FLOOR_DB = 1e-10, -100.0

#: Number of colours: each covers about 1 dB, a barely visible step.
_N_COLOURS = 64

#: Colours from the lowest to the highest level, between which the others are interpolated: from
#: dark to light, perceptually uniform and suitable for any colour vision (the colour map "magma" at
#: every eighth).
_COLOURS = (
    "000004", "1c1044", "4f127b", "812581", "b5367a", "e55064", "fb8761", "fec287", "fcfdbf",
)  # fmt: skip


class Spectrogram:
    """Columns of band power, of equal length and at most `MOST_COLUMNS` of them.

    The length of a recording may be unknown until its end. So columns start short, and if there are
    too many, pairs are merged by the maximum of each band, so that short sounds do not vanish. The
    result does not depend on the division into blocks.
    """

    def __init__(self) -> None:
        # A Hamming window, since it does not fall to zero: a short sound between two hops stays
        # visible.
        self._window = np.hamming(_N_FFT).astype(np.float32)
        #: Samples that are not processed yet, and their number.
        self._waiting = [np.zeros(_N_FFT // 2, dtype=np.float32)]
        self._n_waiting = _N_FFT // 2
        #: Frames of an incomplete column [shape=(n < frames_each, n_bins)].
        self._open = np.zeros((0, _N_FFT // 2 + 1), dtype=np.float32)
        self._columns = np.zeros((MOST_COLUMNS, N_BANDS), dtype=np.float32)
        self._n_columns = 0
        self._frames_each = 1
        self._n_samples = 0

    def push(self, samples: Samples) -> None:
        """Take samples at 16 kHz [shape=(n,)]."""
        self._n_samples += samples.size
        self._wait(samples)
        if self._n_waiting >= _BATCH:
            self._process()

    def finish(self) -> NDArray[np.float32]:
        """Return band powers in dB [shape=(N_BANDS, n_columns)], the lowest band first.

        The columns are of equal length and cover the recording from its start to its end.
        """
        self._wait(np.zeros(_N_FFT // 2, dtype=np.float32))
        self._process()
        if len(self._open):
            self._add(self._open.max(axis=0, keepdims=True))
        # The last column may extend beyond the end; that is corrected here.
        lasts = self._n_samples / (self._frames_each * _HOP)
        width = max(1, math.ceil(lasts))
        nearest = ((np.arange(width) + 0.5) * max(lasts, 1e-9) / width).astype(int)
        power = self._columns[np.minimum(nearest, max(self._n_columns - 1, 0))]
        return np.asarray(10.0 * np.log10(power.T + _FLOOR), dtype=np.float32)

    def _wait(self, samples: Samples) -> None:
        self._waiting.append(samples)
        self._n_waiting += samples.size

    def _process(self) -> None:
        """Process all waiting samples except those that the next frame needs, too."""
        waiting = np.concatenate(self._waiting)
        n_frames = max(0, (waiting.size - _N_FFT) // _HOP + 1)
        if n_frames:
            frames = np.lib.stride_tricks.as_strided(
                waiting, (n_frames, _N_FFT), (_HOP * waiting.itemsize, waiting.itemsize)
            )
            parts = np.asarray(scipy.fft.rfft(frames * self._window, overwrite_x=True))
            parts = parts.view(np.float32)
            parts *= parts
            self._pool(parts[:, ::2] + parts[:, 1::2])
        rest = waiting[n_frames * _HOP :]
        self._waiting, self._n_waiting = [rest], rest.size

    def _pool(self, power: Samples) -> None:
        """Make columns of frames [shape=(n, n_bins)], and keep those of an incomplete column."""
        self._open = np.concatenate([self._open, power]) if len(self._open) else power
        while n_whole := min(len(self._open) // self._frames_each, MOST_COLUMNS - self._n_columns):
            n_frames = n_whole * self._frames_each
            whole, self._open = self._open[:n_frames], self._open[n_frames:]
            self._add(whole.reshape(n_whole, self._frames_each, -1).max(axis=1))

    def _add(self, power: Samples) -> None:
        """Append columns [shape=(n, n_bins)], which must fit, and make room for the next."""
        first, self._n_columns = self._n_columns, self._n_columns + len(power)
        np.matmul(power, _bank(), out=self._columns[first : self._n_columns])
        if self._n_columns == MOST_COLUMNS:
            pairs = self._columns.reshape(-1, 2, N_BANDS)
            self._n_columns //= 2
            self._columns[: self._n_columns] = pairs.max(axis=1)
            self._frames_each *= 2


def band_edges_hz() -> NDArray[np.float64]:
    """Return the edges of the bands [shape=(N_BANDS + 1,)]."""
    return np.geomspace(LOWEST_HZ, HIGHEST_HZ, N_BANDS + 1)


@cache
def _bank() -> NDArray[np.float32]:
    """Return triangles in frequency [shape=(n_bins, N_BANDS)], normalised to a sum of 1.

    Below about 400 Hz bands are narrower than bins; every band then interpolates between two bins.
    """
    bins_hz = np.fft.rfftfreq(_N_FFT, 1 / RATE_HZ)
    edges_hz = band_edges_hz()
    centres_hz = np.sqrt(edges_hz[:-1] * edges_hz[1:])
    reach_hz = np.maximum(np.diff(edges_hz), bins_hz[1])
    distance = np.abs(bins_hz[:, None] - centres_hz[None, :]) / reach_hz
    bank = np.maximum(1.0 - distance, 0.0)
    normalised: NDArray[np.float32] = (bank / bank.sum(axis=0)).astype(np.float32)
    return normalised


def to_png(bands_db: NDArray[np.float32]) -> bytes:
    """Draw band powers [shape=(n_bands, n_columns)]: one pixel each, the highest band at the top.

    The colours span `DYNAMIC_DB` below the maximum; silence is dark.
    """
    top_db = max(float(bands_db.max()), _FLOOR_DB + DYNAMIC_DB)
    shares = np.clip((bands_db[::-1] - top_db) / DYNAMIC_DB + 1.0, 0.0, 1.0)
    pixels = np.rint(shares * (_N_COLOURS - 1)).astype(np.uint8)
    height, width = pixels.shape
    # Each line begins with the number of its filter: none.
    lines = np.pad(pixels, ((0, 0), (1, 0))).tobytes()
    # Noise has no repetitions: skipping the search for them takes half the time and 10 % less
    # space.
    packer = zlib.compressobj(level=1, strategy=zlib.Z_HUFFMAN_ONLY)
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            # Eight bits per pixel, with a palette (PNG, third edition, section 11.2.1).
            _png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)),
            _png_chunk(b"PLTE", _palette()),
            _png_chunk(b"IDAT", packer.compress(lines) + packer.flush()),
            _png_chunk(b"IEND", b""),
        ]
    )


def _png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@cache
def _palette() -> bytes:
    """Return `_N_COLOURS` colours, three bytes each."""
    given = np.array([list(bytes.fromhex(colour)) for colour in _COLOURS])
    places, wanted = np.linspace(0, 1, len(given)), np.linspace(0, 1, _N_COLOURS)
    channels = [np.interp(wanted, places, channel) for channel in given.T]
    return np.rint(channels).astype(np.uint8).T.tobytes()
