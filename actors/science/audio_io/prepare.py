"""The split step: decode, measure at the native rate, and write 16 kHz mono PCM.

Which channels are used may depend on their levels, which are only known after the whole recording
is measured. If the choice differs from the channels that were assumed, the recording is decoded a
second time with the right ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import BinaryIO

import numpy as np
import soxr
from numpy.typing import NDArray

from actors.facts.channel_rules import ENERGY_MEAN
from actors.science.audio_io.decode import open_recording
from actors.science.audio_io.decoder import Decoder
from actors.science.audio_io.downmix import Downmix
from actors.science.audio_io.spectrogram import Spectrogram
from actors.science.detection.chunks import RATE_HZ, Grid
from actors.science.detection.tagging.backbone import RATE_HZ as WIDE_RATE_HZ
from actors.science.errors import EmptyRecording
from actors.science.levels import channels
from actors.science.levels.band_history import BandHistory
from actors.science.levels.levels import LevelHistory
from actors.science.levels.meter import LevelMeter
from actors.science.levels.totals import ChannelTotals, Totals
from actors.science.types import AudioFormat, Hole

#: Bytes per sample of the written PCM: int16, little endian.
PCM_BYTES = 2

#: Full scale of the written PCM.
_PCM_SCALE = 32_768.0


@dataclass(frozen=True, eq=False)
class Prepared:
    """The result of preparing a recording.

    ``grid`` is that of the written samples at 16 kHz; ``duration_s``, ``levels``, ``totals`` and
    ``bands``, if they were requested, are of the recording at its own rate; ``missing_s`` is the
    rest of the length that its header declares, and ``holes`` are the intervals without audio. Most
    samples of ``bad_channels`` are not audio: without these channels, there are fewer holes.
    """

    format: AudioFormat
    grid: Grid
    duration_s: float
    levels: LevelHistory
    totals: Totals
    bands: BandHistory | None
    missing_s: float
    bad_channels: list[int]
    holes: list[Hole]


def prepare(
    decoder: Decoder,
    *,
    used: Sequence[int] | None = None,
    measured: Sequence[ChannelTotals] = (),
    write: Callable[[bytes], object],
    write_wide: Callable[[bytes], object] | None = None,
    third_octaves: bool = False,
    spectrogram: Spectrogram | None = None,
    on_progress: Callable[[float], None] | None = None,
) -> Prepared:
    """Decode and measure a recording in one pass, in bounded memory.

    Parameters
    ----------
    decoder
        An opened recording, not read yet.
    used
        Indices of the channels to measure and to mix. Default: all.
    measured
        The levels of all channels, if an earlier pass has measured them: then only the used ones
        are measured again.
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
    used = range(audio.n_channels) if used is None else used
    meter = LevelMeter(
        rate_hz=audio.rate_hz,
        n_channels=len(used) if measured else audio.n_channels,
        third_octaves=third_octaves,
        used=None if measured else used,
    )
    loudest = Loudest(used)
    mono = _MonoWriter(
        audio.rate_hz, used, write=write, write_wide=write_wide, spectrogram=spectrogram
    )
    n_frames = 0
    for block in decoder.blocks(used=used):
        n_frames += len(block)
        loudest.push(block)
        meter.holes = decoder.holes
        meter.push(block[:, used] if measured else block)
        mono.push(block)
        if on_progress is not None:
            on_progress(n_frames / audio.rate_hz)
    if not mono.finish():
        raise EmptyRecording
    bad = [] if measured else decoder.bad_channels
    levels, totals = meter.finish(), meter.totals(bad=bad)
    if measured:
        totals = replace(totals, channels=list(measured), used=list(used))
    return Prepared(
        format=audio,
        grid=Grid.hung_on(loudest.frame / audio.rate_hz, n_samples=mono.n_samples),
        duration_s=n_frames / audio.rate_hz,
        levels=levels,
        totals=totals,
        bands=meter.band_history(),
        missing_s=decoder.missing_s,
        bad_channels=decoder.bad_channels,
        holes=decoder.holes,
    )


def used_channels(file: BinaryIO, channel: str, *, until_s: float | None = None) -> list[int]:
    """Return the indices of the channels that the option ``channel`` names in a recording.

    The recording is only measured if the option depends on levels; with ``until_s`` only the audio
    before that time.

    Raises
    ------
    RecordingError
        As `decode.open_recording` and `Decoder.blocks`, and NoSuchChannel.
    """
    with open_recording(file) as decoder:
        audio = decoder.format
        used = channels.assumed(channel, n_channels=audio.n_channels)
        if len(used) == 1:
            return used
        meter = LevelMeter(rate_hz=audio.rate_hz, n_channels=audio.n_channels)
        seconds = decoder.blocks(audio.rate_hz, used=())
        for block in islice(seconds, None if until_s is None else math.ceil(until_s)):
            meter.push(block)
        meter.finish()
        return channels.chosen(channel, meter.totals(bad=decoder.bad_channels).channels)


def read_mono(
    file: BinaryIO,
    *,
    channel: str = ENERGY_MEAN,
    until_s: float | None = None,
    to_hz: int = RATE_HZ,
) -> Iterator[NDArray[np.float32]]:
    """Yield a recording as the split step writes it: mono at 16 kHz or another rate, in pieces.

    With ``until_s`` only the audio before that time decides about the channels, for callers that
    need no more than that; the pieces still continue to the end.

    Raises
    ------
    RecordingError
        As `used_channels`.
    """
    used = used_channels(file, channel, until_s=until_s)
    with open_recording(file) as decoder:
        resampler = MonoResampler(rate_hz=decoder.format.rate_hz, used=used, to_hz=to_hz)
        for block in decoder.blocks(used=used):
            yield resampler.push(block)
        yield resampler.finish()


class _MonoWriter:
    """Mixes blocks to mono, resamples them and writes them as PCM and to the spectrogram."""

    def __init__(
        self,
        rate_hz: int,
        used: Sequence[int],
        *,
        write: Callable[[bytes], object],
        write_wide: Callable[[bytes], object] | None,
        spectrogram: Spectrogram | None,
    ) -> None:
        self.n_samples = 0
        self._downmix = Downmix(rate_hz=rate_hz, used=used)
        self._resampler = Resampler(rate_hz=rate_hz)
        self._wide = (
            None
            if write_wide is None
            else (Resampler(rate_hz=rate_hz, to_hz=WIDE_RATE_HZ), write_wide)
        )
        self._write = write
        self._spectrogram = spectrogram

    def push(self, block: NDArray[np.float32]) -> None:
        """Take frames [shape=(n, n_channels)]."""
        self._resample(self._downmix.push(block), last=False)

    def finish(self) -> int:
        """Write the rest; return the total number of samples."""
        self._resample(self._downmix.finish(), last=True)
        return self.n_samples

    def _resample(self, mono: NDArray[np.float32], *, last: bool) -> None:
        samples = self._resampler.push(mono, last=last)
        self.n_samples += samples.size
        if self._spectrogram is not None:
            self._spectrogram.push(samples)
        self._write(float_to_pcm(samples))
        if self._wide is not None:
            resampler, write = self._wide
            write(float_to_pcm(resampler.push(mono, last=last)))


class Loudest:
    """Finds the loudest frame of some channels, block by block; the first one of equal frames."""

    def __init__(self, used: Sequence[int]) -> None:
        self.frame = 0
        self._used = list(used)
        self._peak = 0.0
        self._n_frames = 0

    def push(self, block: NDArray[np.float32]) -> None:
        """Take frames [shape=(n, n_channels)]."""
        if block.size:
            magnitudes = np.abs(block[:, self._used])
            found = int(magnitudes.argmax())
            peak = float(magnitudes.flat[found])
            if peak > self._peak:
                self._peak = peak
                self.frame = self._n_frames + found // len(self._used)
        self._n_frames += len(block)


class Resampler:
    """Resamples mono audio to 16 kHz or another rate, block by block.

    The result does not depend on the division into blocks. At the same rate the samples are passed
    on unchanged, bit by bit.
    """

    def __init__(self, *, rate_hz: int, to_hz: int = RATE_HZ) -> None:
        self._stream = None if rate_hz == to_hz else soxr.ResampleStream(rate_hz, to_hz, 1)

    def push(self, mono: NDArray[np.float32], *, last: bool) -> NDArray[np.float32]:
        """Take samples [shape=(n,)], return the available output, or all the rest if ``last``."""
        mono = np.ascontiguousarray(mono)
        if self._stream is None:
            return mono
        return np.asarray(self._stream.resample_chunk(mono, last=last), dtype=np.float32)


class MonoResampler:
    """Mixes channels to mono and resamples to 16 kHz or another rate, block by block.

    Parameters
    ----------
    rate_hz
        Sample rate of the blocks.
    used
        Indices of the channels to mix.
    to_hz
        Sample rate of the result.
    """

    def __init__(self, *, rate_hz: int, used: Sequence[int], to_hz: int = RATE_HZ) -> None:
        self._downmix = Downmix(rate_hz=rate_hz, used=used)
        self._resampler = Resampler(rate_hz=rate_hz, to_hz=to_hz)

    def push(self, block: NDArray[np.float32]) -> NDArray[np.float32]:
        """Take frames [shape=(n, n_channels)], return the available output [shape=(m,)]."""
        return self._resampler.push(self._downmix.push(block), last=False)

    def finish(self) -> NDArray[np.float32]:
        """Return the rest of the output [shape=(m,)]."""
        return self._resampler.push(self._downmix.finish(), last=True)


def float_to_pcm(samples: NDArray[np.float32]) -> bytes:
    """Convert samples with full scale 1.0 to int16 little-endian PCM, with clipping."""
    scaled = np.rint(samples * _PCM_SCALE)
    pcm: NDArray[np.int16] = np.clip(scaled, -_PCM_SCALE, _PCM_SCALE - 1).astype("<i2")
    return pcm.tobytes()


def pcm_to_float(data: bytes) -> NDArray[np.float32]:
    """Convert int16 little-endian PCM to float32 samples with full scale 1.0 [shape=(n,)]."""
    return np.frombuffer(data, dtype="<i2").astype(np.float32) / np.float32(_PCM_SCALE)
