"""The split step: decode once, measure at the native rate, and write 16 kHz mono PCM.

The mean of the channels is analysed. If they cancel each other in it, which is only known after the
whole recording is measured, the recording is decoded a second time, for its loudest channel.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import BinaryIO

import numpy as np
import soxr
from numpy.typing import NDArray

from actors.science.audio_io.decode import Decoder, open_recording
from actors.science.audio_io.spectrogram import Spectrogram
from actors.science.detection.chunks import RATE_HZ, Grid
from actors.science.detection.tagging.backbone import RATE_HZ as WIDE_RATE_HZ
from actors.science.errors import EmptyRecording
from actors.science.levels.levels import LevelHistory
from actors.science.levels.meter import LevelMeter, lone_channel
from actors.science.levels.totals import Totals
from actors.science.types import AudioFormat, Hole

#: Bytes per sample of the written PCM: int16, little endian.
PCM_BYTES = 2

#: Full scale of the written PCM.
_PCM_SCALE = 32_768.0


@dataclass(frozen=True, eq=False)
class Prepared:
    """The result of preparing a recording.

    ``grid`` is that of the written samples at 16 kHz; ``duration_s``, ``levels`` and ``totals`` are
    of the recording at its own rate; ``missing_s`` is the rest of the length that its header
    declares, and ``holes`` are the intervals without audio.
    """

    format: AudioFormat
    grid: Grid
    duration_s: float
    levels: LevelHistory
    totals: Totals
    missing_s: float
    holes: list[Hole]


def prepare(
    decoder: Decoder,
    *,
    write: Callable[[bytes], object],
    write_wide: Callable[[bytes], object] | None = None,
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
        Receives the mono mix at 16 kHz as int16 little-endian PCM, piece by piece.
    write_wide
        Receives the same at `WIDE_RATE_HZ`.
    third_octaves
        Whether to measure third-octave bands as well.
    spectrogram
        Receives the mono mix at 16 kHz as well; the caller finishes it.
    on_progress
        Receives the decoded seconds after each block; an exception from it stops the work.

    Raises
    ------
    RecordingError
        As `Decoder.blocks`, and EmptyRecording if the audio is too short for a single sample.
    """
    audio = decoder.format
    meter = LevelMeter(
        rate_hz=audio.rate_hz, n_channels=audio.n_channels, third_octaves=third_octaves
    )
    loudest = Loudest()
    mono = _MonoWriter(
        audio.rate_hz, None, write=write, write_wide=write_wide, spectrogram=spectrogram
    )
    n_frames = 0
    for block in decoder.blocks():
        n_frames += len(block)
        loudest.push(block)
        meter.holes = decoder.holes
        meter.push(block)
        mono.push(block)
        if on_progress is not None:
            on_progress(n_frames / audio.rate_hz)
    if not mono.finish():
        raise EmptyRecording
    return Prepared(
        format=audio,
        grid=Grid.hung_on(loudest.frame / audio.rate_hz, n_samples=mono.n_samples),
        duration_s=n_frames / audio.rate_hz,
        levels=meter.finish(),
        totals=meter.totals(),
        missing_s=decoder.missing_s,
        holes=decoder.holes,
    )


def write_channel(
    decoder: Decoder,
    *,
    channel: int,
    write: Callable[[bytes], object],
    write_wide: Callable[[bytes], object] | None = None,
    spectrogram: Spectrogram | None = None,
    on_block: Callable[[], object] | None = None,
) -> None:
    """Write one channel to replace the mean that `prepare` wrote, on the same grid.

    Parameters
    ----------
    decoder
        The same recording, opened again.
    channel
        Its index: ``totals.lone_channel`` of the result of `prepare`.
    write, write_wide, spectrogram
        As for `prepare`.
    on_block
        Called after each block; an exception from it stops the work.
    """
    mono = _MonoWriter(
        decoder.format.rate_hz,
        channel,
        write=write,
        write_wide=write_wide,
        spectrogram=spectrogram,
    )
    for block in decoder.blocks():
        mono.push(block)
        if on_block is not None:
            on_block()
    mono.finish()


def read_mono(
    file: BinaryIO, *, until_s: float | None = None, to_hz: int = RATE_HZ
) -> Iterator[NDArray[np.float32]]:
    """Yield a recording as the split step writes it: mono at 16 kHz or another rate, in pieces.

    With ``until_s`` only the audio before that time is checked for channels that cancel each other,
    for callers that need no more than that; the pieces still continue to the end.

    Raises
    ------
    RecordingError
        As `decode.open_recording` and `Decoder.blocks`.
    """
    with open_recording(file) as decoder:
        audio = decoder.format
        seconds = decoder.blocks(audio.rate_hz)
        channel = lone_channel(
            islice(seconds, None if until_s is None else math.ceil(until_s)),
            rate_hz=audio.rate_hz,
            n_channels=audio.n_channels,
        )
    with open_recording(file) as decoder:
        resampler = MonoResampler(rate_hz=audio.rate_hz, channel=channel, to_hz=to_hz)
        for block in decoder.blocks():
            yield resampler.push(block)
        yield resampler.finish()


class _MonoWriter:
    """Resamples blocks to mono and writes them as PCM and to the spectrogram."""

    def __init__(
        self,
        rate_hz: int,
        channel: int | None,
        *,
        write: Callable[[bytes], object],
        write_wide: Callable[[bytes], object] | None,
        spectrogram: Spectrogram | None,
    ) -> None:
        self.n_samples = 0
        self._resampler = MonoResampler(rate_hz=rate_hz, channel=channel)
        self._wide = (
            None
            if write_wide is None
            else (MonoResampler(rate_hz=rate_hz, channel=channel, to_hz=WIDE_RATE_HZ), write_wide)
        )
        self._write = write
        self._spectrogram = spectrogram

    def push(self, block: NDArray[np.float32]) -> None:
        """Take frames [shape=(n, n_channels)]."""
        self._keep(self._resampler.push(block))
        if self._wide is not None:
            resampler, write = self._wide
            write(float_to_pcm(resampler.push(block)))

    def finish(self) -> int:
        """Write the rest; return the total number of samples."""
        self._keep(self._resampler.finish())
        if self._wide is not None:
            resampler, write = self._wide
            write(float_to_pcm(resampler.finish()))
        return self.n_samples

    def _keep(self, samples: NDArray[np.float32]) -> None:
        self.n_samples += samples.size
        if self._spectrogram is not None:
            self._spectrogram.push(samples)
        self._write(float_to_pcm(samples))


class Loudest:
    """Finds the loudest frame of a recording, block by block; the first one of equal frames."""

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
    """Mixes channels down to their mean and resamples to 16 kHz or another rate, block by block.

    A channel is included from its first non-zero sample on, so that a dead channel does not lower
    the mean. The result does not depend on the division into blocks.

    Parameters
    ----------
    rate_hz
        Sample rate of the blocks.
    channel
        Index of the channel to use instead of the mean.
    to_hz
        Sample rate of the result.
    """

    def __init__(self, *, rate_hz: int, channel: int | None = None, to_hz: int = RATE_HZ) -> None:
        self._channel = channel
        # The channels with non-zero samples so far; set with the first block.
        self._awake: NDArray[np.bool_] | None = None
        # At the same rate the samples are passed on unchanged, bit by bit.
        self._stream = None if rate_hz == to_hz else soxr.ResampleStream(rate_hz, to_hz, 1)

    def push(self, block: NDArray[np.float32]) -> NDArray[np.float32]:
        """Take frames [shape=(n, n_channels)], return the available output [shape=(m,)]."""
        mono = np.ascontiguousarray(self._mixed(block), dtype=np.float32)
        return mono if self._stream is None else self._resampled(mono, last=False)

    def finish(self) -> NDArray[np.float32]:
        """Return the rest of the resampler's output [shape=(m,)]."""
        nothing = np.zeros(0, dtype=np.float32)
        return nothing if self._stream is None else self._resampled(nothing, last=True)

    def _mixed(self, block: NDArray[np.float32]) -> NDArray[np.float32]:
        n_channels = block.shape[1]
        if self._channel is not None or n_channels == 1:
            return block[:, self._channel or 0]
        if self._awake is None:
            self._awake = np.zeros(n_channels, dtype=np.bool_)
        n_awake: NDArray[np.float32] | np.float32
        if not self._awake.all() and block[:, ~self._awake].any():
            counts = np.logical_or.accumulate(block != 0, axis=0) | self._awake
            self._awake = counts[-1]
            n_awake = np.maximum(counts.sum(axis=1), 1).astype(np.float32)
        else:
            n_awake = np.float32(max(int(self._awake.sum()), 1))
        return np.asarray(block.sum(axis=1, dtype=np.float32) / n_awake)

    def _resampled(self, mono: NDArray[np.float32], *, last: bool) -> NDArray[np.float32]:
        assert self._stream is not None
        return np.asarray(self._stream.resample_chunk(mono, last=last), dtype=np.float32)


def float_to_pcm(samples: NDArray[np.float32]) -> bytes:
    """Convert samples with full scale 1.0 to int16 little-endian PCM, with clipping."""
    scaled = np.rint(samples * _PCM_SCALE)
    pcm: NDArray[np.int16] = np.clip(scaled, -_PCM_SCALE, _PCM_SCALE - 1).astype("<i2")
    return pcm.tobytes()


def pcm_to_float(data: bytes) -> NDArray[np.float32]:
    """Convert int16 little-endian PCM to float32 samples with full scale 1.0 [shape=(n,)]."""
    return np.frombuffer(data, dtype="<i2").astype(np.float32) / np.float32(_PCM_SCALE)
