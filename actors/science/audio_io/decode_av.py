"""FFmpeg as a backend of the decoder, for formats that libsndfile does not read."""

from __future__ import annotations

import ctypes.util
import functools
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.packet import Packet
from numpy.typing import NDArray

from actors.science.audio_io.containers import Container
from actors.science.audio_io.layout import Layout, LayoutConverter
from actors.science.audio_io.patched_file import BrokenAudio, PatchedFile
from actors.science.errors import EmptyRecording, Undecodable
from actors.science.types import AudioFormat

#: Lossless codecs, which do not pad.
_LOSSLESS = ("pcm_", "flac", "alac", "wavpack", "tta")

#: Containers with the length in the header. For the others FFmpeg estimates it from the bit rate.
_KNOW_LENGTH = frozenset({"mp4", "webm", "flac", "aiff"})

#: Streams of self-delimiting frames: decoding resumes after a bad frame, such as a tag in the
#: middle of a joined file.
_SELF_SYNCHRONISING = frozenset({"mp3", "aac"})

# A crafted file of a few kilobytes can request gigabytes: by a packet that declares millions of
# frames, or by tables for samples that do not exist. Limits that no genuine file reaches:
#: Frames per packet; encoders pack thousands.
MOST_FRAMES = 1 << 18
#: Bytes of a single allocation: an index of five million packets, 24 hours of most codecs.
_MOST_BLOCK_BYTES = 1 << 27
#: Tracks, each of which has an index.
_MOST_TRACKS = 16

_FAILURES = (av.FFmpegError, ValueError, EOFError)


@functools.cache
def _limit_blocks() -> None:
    """Limit the size of FFmpeg's memory allocations in this process.

    PyAV does not expose this. Its wheel includes the library; otherwise the system's is used.
    """
    beside = Path(av.__file__).parent.with_name("av.libs").glob("libavutil*")
    library = next(map(str, beside), None) or ctypes.util.find_library("avutil")
    if library is not None:
        ctypes.CDLL(library).av_max_alloc(ctypes.c_size_t(_MOST_BLOCK_BYTES))


class AvBackend:
    """The first audio track of a file, decoded by FFmpeg.

    The first frame is decoded immediately: with spectral band replication the header has half of
    the actual sample rate, which only the decoder can determine.

    Raises
    ------
    BrokenAudio
        If the file cannot be opened, or its first frame cannot be decoded.
    Undecodable
        If there is no audio track.
    EmptyRecording
        If the track has no frames.
    """

    def __init__(self, source: PatchedFile, container: Container) -> None:
        self._source = source
        self._packed: av.AudioResampler | None = None
        # Input of the resamplers: sample format, channels and rate.
        self._given: tuple[object, ...] = ()
        _limit_blocks()
        try:
            self._container = av.open(
                source,
                mode="r",
                format=container.demuxer,
                metadata_errors="ignore",
                options={"max_streams": str(_MOST_TRACKS)},
            )
        except _FAILURES as error:
            source.reraise()
            raise BrokenAudio from error
        source.reraise()
        if not self._container.streams.audio:
            self._container.close()
            raise Undecodable("the file has no audio track")
        self._stream = self._container.streams.audio[0]
        # None, despite its type annotation, if FFmpeg has no decoder for the codec.
        if cast(object, self._stream.codec_context) is None:
            self._container.close()
            raise BrokenAudio
        self._stream.codec_context.options = {"max_samples": str(MOST_FRAMES)}
        self._skips_errors = container.name in _SELF_SYNCHRONISING
        self._frames = self._decoded()
        try:
            self._first = next(self._frames, None)
            if self._first is None:
                raise EmptyRecording
            self._describe(container, self._first)
        except Exception:
            self._container.close()
            raise

    def pieces(self) -> Iterator[NDArray[np.float32]]:
        frame = self._first
        while frame is not None:
            yield from self._repacked(frame)
            frame = next(self._frames, None)
        yield from self._rest()

    def close(self) -> None:
        self._container.close()

    def _describe(self, container: Container, first: AudioFrame) -> None:
        codec = self._stream.codec_context.codec.canonical_name
        rate_hz = first.sample_rate
        self.is_lossy = not codec.startswith(_LOSSLESS)
        seconds = self._promised_s() if container.name in _KNOW_LENGTH else None
        self.promised = round(seconds * rate_hz) if seconds else container.promised_frames
        self.format = AudioFormat(
            container=container.name,
            codec=codec,
            rate_hz=rate_hz,
            n_channels=len(first.layout.channels),
            n_frames=self.promised,
        )

    def _promised_s(self) -> Fraction | None:
        if self._stream.duration and self._stream.time_base:
            return self._stream.duration * Fraction(self._stream.time_base)
        if self._container.duration:
            return Fraction(self._container.duration, av.time_base)
        return None

    def _decoded(self) -> Iterator[AudioFrame]:
        has_decoded = False
        for packet in self._packets():
            try:
                frames = packet.decode()
            except _FAILURES as error:
                self._source.reraise()
                if self._skips_errors and has_decoded:
                    continue
                raise BrokenAudio from error
            for frame in frames:
                has_decoded = True
                yield frame

    def _packets(self) -> Iterator[Packet[AudioStream]]:
        try:
            yield from self._container.demux(self._stream)
        except _FAILURES as error:
            self._source.reraise()
            raise BrokenAudio from error
        self._source.reraise()

    def _repacked(self, frame: AudioFrame) -> Iterator[NDArray[np.float32]]:
        """Yield a frame as packed float at the first frame's rate and number of channels.

        Both may change within a file, for example if it was joined from several.
        """
        given = (frame.format.name, frame.layout.name, frame.sample_rate)
        if given != self._given:
            yield from self._rest()
            self._given = given
            self._packed = av.AudioResampler(
                format="flt", layout=frame.layout, rate=frame.sample_rate
            )
            self._given_layout = Layout(frame.sample_rate, len(frame.layout.channels))
            self._converter = LayoutConverter(self._given_layout, Layout.of(self.format))
        yield from self._through(frame)

    def _rest(self) -> Iterator[NDArray[np.float32]]:
        """Yield the samples that remain in the resamplers."""
        if self._packed is not None:
            yield from self._through(None)
            yield self._converter.finish()

    def _through(self, frame: AudioFrame | None) -> Iterator[NDArray[np.float32]]:
        assert self._packed is not None
        try:
            packed = self._packed.resample(frame)
        except _FAILURES as error:
            raise BrokenAudio from error
        for each in packed:
            samples = each.to_ndarray().reshape(-1, self._given_layout.n_channels)
            yield self._converter.push(np.asarray(samples, dtype=np.float32))
