"""The split step: decode once, measure at the native rate, and write 16 kHz mono PCM."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import soxr
from numpy.typing import NDArray

from actors.science.chunks import RATE_HZ, Grid
from actors.science.decode import Decoder
from actors.science.errors import EmptyRecording
from actors.science.levels import LevelSeries
from actors.science.meter import LevelMeter
from actors.science.spectrogram import Spectrogram
from actors.science.totals import Totals
from actors.science.types import AudioFormat

#: Bytes of a sample of the written PCM: int16, little endian.
PCM_BYTES = 2

#: Full scale of the written PCM.
_PCM_SCALE = 32_768.0


@dataclass(frozen=True, eq=False)
class Prepared:
    """What a recording turned into.

    ``grid`` is that of the written samples at 16 kHz; ``duration_s``, ``levels`` and ``totals``
    are of the recording at its own rate; ``missing_s`` is what the header promises beyond it.
    """

    format: AudioFormat
    grid: Grid
    duration_s: float
    levels: LevelSeries
    totals: Totals
    missing_s: float


def prepare(
    decoder: Decoder,
    *,
    write: Callable[[bytes], object],
    third_octaves: bool = False,
    spectrogram: Spectrogram | None = None,
    on_progress: Callable[[float], None] | None = None,
) -> Prepared:
    """Decode a recording once, in bounded memory.

    Parameters
    ----------
    decoder
        An opened recording, not read yet.
    write
        Takes the mono mix at 16 kHz as int16 little-endian PCM, piece by piece.
    third_octaves
        Whether to measure third-octave bands too.
    spectrogram
        Takes the mono mix at 16 kHz too; the caller finishes it.
    on_progress
        Is told the seconds that were decoded, after each block; it may raise to stop the work.

    Raises
    ------
    RecordingError
        As `Decoder.blocks`, and EmptyRecording when too little is left to make one sample.
    """
    audio = decoder.format
    meter = LevelMeter(
        rate_hz=audio.rate_hz, n_channels=audio.n_channels, third_octaves=third_octaves
    )
    resampler = MonoResampler(rate_hz=audio.rate_hz)
    n_frames = n_samples = 0
    loudest = Loudest()

    def keep(samples: NDArray[np.float32]) -> None:
        nonlocal n_samples
        n_samples += samples.size
        if spectrogram is not None:
            spectrogram.push(samples)
        write(float_to_pcm(samples))

    for block in decoder.blocks():
        n_frames += len(block)
        loudest.push(block)
        meter.push(block)
        keep(resampler.push(block))
        if on_progress is not None:
            on_progress(n_frames / audio.rate_hz)
    keep(resampler.finish())
    if not n_samples:
        raise EmptyRecording
    return Prepared(
        format=audio,
        grid=Grid.hung_on(loudest.frame / audio.rate_hz, n_samples=n_samples),
        duration_s=n_frames / audio.rate_hz,
        levels=meter.finish(),
        totals=meter.totals(),
        missing_s=decoder.missing_s,
    )


class Loudest:
    """Finds the loudest frame of a recording, block by block: the first of them, if it is many."""

    def __init__(self) -> None:
        self.frame = 0
        self._peak = 0.0
        self._n_frames = 0

    def push(self, block: NDArray[np.float32]) -> None:
        """Take frames [shape=(n, n_channels)]."""
        if block.size:
            magnitudes = np.abs(block)
            found = int(magnitudes.argmax())
            peak = float(magnitudes.flat[found])
            if peak > self._peak:
                self._peak = peak
                self.frame = self._n_frames + found // block.shape[1]
        self._n_frames += len(block)


class MonoResampler:
    """Mixes channels down to their mean and resamples to 16 kHz, block by block.

    The result does not depend on how the audio is cut into blocks.
    """

    def __init__(self, *, rate_hz: int) -> None:
        # At 16 kHz there is nothing to do, and the samples stay as they are, bit by bit.
        self._stream = None if rate_hz == RATE_HZ else soxr.ResampleStream(rate_hz, RATE_HZ, 1)

    def push(self, block: NDArray[np.float32]) -> NDArray[np.float32]:
        """Take frames [shape=(n, n_channels)], give what is ready [shape=(m,)]."""
        mono = block[:, 0] if block.shape[1] == 1 else block.mean(axis=1, dtype=np.float32)
        mono = np.ascontiguousarray(mono, dtype=np.float32)
        return mono if self._stream is None else self._resampled(mono, last=False)

    def finish(self) -> NDArray[np.float32]:
        """What was still on its way through the filter [shape=(m,)]."""
        nothing = np.zeros(0, dtype=np.float32)
        return nothing if self._stream is None else self._resampled(nothing, last=True)

    def _resampled(self, mono: NDArray[np.float32], *, last: bool) -> NDArray[np.float32]:
        assert self._stream is not None
        return np.asarray(self._stream.resample_chunk(mono, last=last), dtype=np.float32)


def float_to_pcm(samples: NDArray[np.float32]) -> bytes:
    """Samples with full scale 1.0 as int16 little-endian PCM; what is louder is clipped."""
    scaled = np.rint(samples * _PCM_SCALE)
    pcm: NDArray[np.int16] = np.clip(scaled, -_PCM_SCALE, _PCM_SCALE - 1).astype("<i2")
    return pcm.tobytes()


def pcm_to_float(data: bytes) -> NDArray[np.float32]:
    """int16 little-endian PCM as samples with full scale 1.0 [shape=(n,), dtype=float32]."""
    return np.frombuffer(data, dtype="<i2").astype(np.float32) / np.float32(_PCM_SCALE)
