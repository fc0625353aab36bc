"""FFmpeg as a backend of the decoder, for formats that libsndfile does not read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from typing import cast

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.packet import Packet
from av.stream import Disposition
from numpy.typing import NDArray

from actors.science.audio_io import av_files, codec_names, flac, lost_frames, ogg
from actors.science.audio_io.containers import Container
from actors.science.audio_io.holes import Holes
from actors.science.audio_io.layout import Layout, LayoutConverter
from actors.science.audio_io.patched_file import BrokenAudio, PatchedFile
from actors.science.audio_io.timeline import TIMED, Timeline
from actors.science.errors import EmptyRecording, Undecodable
from actors.science.types import AudioFormat, Hole, HoleKind

#: Lossless codecs, which do not pad.
_LOSSLESS = ("pcm_", "flac", "alac", "wavpack", "tta")

#: Codecs whose checksums are verified. FFmpeg would decode damaged frames to noise at full scale.
#: (Some encoders write wrong checksums into MP3 files.)
_HAVE_CHECKSUMS = frozenset({"wavpack", "tta", "flac"})

#: Containers with the length in the header. For the others FFmpeg estimates it from the bit rate.
_KNOW_LENGTH = frozenset(
    {
        "mp4",
        "webm",
        "matroska",
        "flv",
        "w64",
        "flac",
        "aiff",
        "caf",
        "wavpack",
        "tta",
        "ape",
        "dsf",
        "dff",
        "mpc8",
    }
)

#: Those whose length is only used for what cannot be decoded: a count of samples that recorders may
#: get wrong, or the times of the last pages.
_HAVE_DURATIONS = frozenset({"wav", "rf64", "ogg"})

#: A duration in the tags of Matroska and WebM.
_CLOCK = re.compile(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)")

#: This many packets or more in the header of an AVI file mean that their number is unknown. FFmpeg
#: writes this one into a pipe, and no AVI file has as many.
_UNKNOWN_PACKETS = 0x4000_0000

#: Streams of self-delimiting frames: decoding resumes after a bad frame, such as a tag in the
#: middle of a joined file. Where packets have times, the bad one leaves a gap.
_SELF_SYNCHRONISING = TIMED | {"mp3", "aac", "latm", "ac3", "eac3", "amr"}

#: Longest piece of zeros for a gap, so that it takes little memory.
_MOST_ZEROS = 65_536


def _is_default(track: AudioStream) -> bool:
    return bool(track.disposition & Disposition.default)


class AvBackend:
    """The default audio track of a file, else its first one, decoded by FFmpeg.

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
        self.holes = Holes()
        self._n_frames = 0
        #: The duration of all audio so far, with what the resamplers hold: up to a second.
        self._audio_s = 0.0
        #: The error of the latest packet that failed.
        self._failure: Exception | None = None
        self._packed: av.AudioResampler | None = None
        # Input of the resamplers: sample format, channels and rate.
        self._given: tuple[object, ...] = ()
        self._container = av_files.open_in_limits(source, container)
        self._stream = self._chosen_track()
        starts_at = self._container.start_time
        self._timeline = Timeline(
            container.name, begin_s=None if starts_at is None else starts_at / av.time_base
        )
        self._losses = lost_frames.of(source, container)
        context = self._stream.codec_context
        context.options = {"max_samples": str(av_files.MOST_FRAMES)}
        if context.name in _HAVE_CHECKSUMS:
            context.options = {**context.options, "err_detect": "crccheck+explode"}
        self._n_flac_block = (
            flac.block_length(context.extradata or b"") if container.name == "flac" else 0
        )
        self._is_ogg = container.name == "ogg"
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

    def _chosen_track(self) -> AudioStream:
        """Return the track to decode; without any, close the file and raise."""
        tracks = self._container.streams.audio
        # The codec is None, despite its type annotation, if FFmpeg has no decoder for it.
        usable = [track for track in tracks if cast(object, track.codec_context) is not None]
        if usable:
            return next(filter(_is_default, usable), usable[0])
        self._container.close()
        raise BrokenAudio if tracks else Undecodable("the file has no audio track")

    def pieces(self) -> Iterator[NDArray[np.float32]]:
        frame = self._first
        while frame is not None:
            yield from self._zeros_before(frame)
            yield from self._counted(self._repacked(frame))
            frame = next(self._frames, None)
        yield from self._counted(self._rest())

    def _counted(self, pieces: Iterator[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
        for piece in pieces:
            self._n_frames += len(piece)
            yield piece

    def _zeros_before(self, frame: AudioFrame) -> Iterator[NDArray[np.float32]]:
        """Yield zeros for the time between the audio so far and a frame."""
        rate_hz = self.format.rate_hz
        lasts_s = frame.samples / frame.sample_rate
        gap_s = self._timeline.gap_s(frame.time, lasts_s=lasts_s, audio_s=self._audio_s)
        gap_s += lasts_s * self._losses.before_next()
        n_missing = round(gap_s * rate_hz)
        self._audio_s += n_missing / rate_hz
        if not n_missing:
            return
        yield from self._counted(self._rest())
        stop = self._n_frames + n_missing
        # Packets that failed before the first frame are lost; they do not begin late.
        is_late = not self._n_frames and self._failure is None
        kind = HoleKind.LATE_START if is_late else HoleKind.GAP
        self.holes.add(Hole(self._n_frames, stop, kind))
        if is_late and self.promised and self._stream.duration:
            # The header has the length of the track, which excludes the time before it.
            self.promised += stop
        while self._n_frames < stop:
            n_zeros = min(stop - self._n_frames, _MOST_ZEROS)
            self._n_frames += n_zeros
            yield np.zeros((n_zeros, self.format.n_channels), dtype=np.float32)

    def close(self) -> None:
        self._container.close()

    def _describe(self, container: Container, first: AudioFrame) -> None:
        codec = self._stream.codec_context.codec.canonical_name
        rate_hz = first.sample_rate
        self.is_lossy = not codec.startswith(_LOSSLESS)
        seconds = self._promised_s(container)
        self.promised = round(seconds * rate_hz) if seconds else container.promised_frames
        self.format = AudioFormat(
            container=container.name,
            codec=codec_names.of_ffmpeg(codec),
            rate_hz=rate_hz,
            n_channels=len(first.layout.channels),
            n_frames=self.promised,
        )

    def _promised_s(self, container: Container) -> Fraction | float | None:
        """Return the length that the header declares for the track, if it is reliable."""
        is_alone = len(self._container.streams) == 1
        if container.name == "avi" and self._stream.time_base:
            # FFmpeg shortens the duration to that of the file, but not the number of packets.
            n_packets = self._stream.frames
            is_known = 0 < n_packets < _UNKNOWN_PACKETS
            return n_packets * Fraction(self._stream.time_base) if is_known else None
        if container.duration_s is not None:
            return container.duration_s if is_alone else None
        if container.name not in _KNOW_LENGTH:
            return None
        if self._stream.duration and self._stream.time_base:
            return self._stream.duration * Fraction(self._stream.time_base)
        # In Matroska and WebM, the end of the track.
        end = _CLOCK.fullmatch(self._stream.metadata.get("DURATION", ""))
        if end is not None:
            return int(end[1]) * 3_600 + int(end[2]) * 60 + Fraction(end[3])
        # That of the longest track, if there are several.
        if self._container.duration and is_alone:
            return Fraction(self._container.duration, av.time_base)
        return None

    def _decoded(self) -> Iterator[AudioFrame]:
        has_decoded = False
        for packet in self._packets():
            try:
                frames = packet.decode()
            except Exception as error:
                self._source.reraise()
                if not self._skips_errors:
                    self._promise_rest(packet)
                    raise BrokenAudio from error
                self._failure = error
                self._losses.fail()
                continue
            for frame in frames:
                has_decoded = True
                yield frame
        if self._failure is not None and not has_decoded:
            raise BrokenAudio from self._failure

    def _promise_rest(self, packet: Packet[AudioStream] | None) -> None:
        """Estimate the length of a file that cannot be decoded beyond a packet, if it has none."""
        if not self._n_frames or self.promised:
            return
        stream = self._stream
        if self.format.container in _HAVE_DURATIONS and stream.duration and stream.time_base:
            self.promised = round(stream.duration * stream.time_base * self.format.rate_hz)
        elif packet is not None and packet.pos:
            self.promised = self._n_frames * self._source.n_bytes // packet.pos

    def _packets(self) -> Iterator[Packet[AudioStream]]:
        packet = None
        packets = self._container.demux(self._stream)
        if self._is_ogg:
            packets = ogg.with_page_times(packets, self._source)
        try:
            for packet in packets:
                if self._n_flac_block:
                    # FFmpeg loses the times after a damaged frame.
                    packet.pts = flac.position(bytes(packet), n_block=self._n_flac_block)
                yield packet
        except Exception as error:
            self._source.reraise()
            self._promise_rest(packet)
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
        self._audio_s += frame.samples / frame.sample_rate
        yield from self._through(frame)

    def _rest(self) -> Iterator[NDArray[np.float32]]:
        """Yield the samples that remain in the resamplers, and remove these."""
        if self._packed is not None:
            yield from self._through(None)
            yield self._converter.finish()
            self._packed, self._given = None, ()

    def _through(self, frame: AudioFrame | None) -> Iterator[NDArray[np.float32]]:
        assert self._packed is not None
        try:
            packed = self._packed.resample(frame)
        except Exception as error:
            raise BrokenAudio from error
        for each in packed:
            samples = each.to_ndarray().reshape(-1, self._given_layout.n_channels)
            yield self._converter.push(np.asarray(samples, dtype=np.float32))
