"""Recordings in the shapes that recorders, phones, editors and pipes give them.

All contain the same sound: faint noise, and a burst of a tone at a known time. The containers that
FFmpeg writes are made by it; broken headers and beginnings are made by changing bytes.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TypedDict, Unpack

import av
import numpy as np
import soundfile
from numpy.typing import NDArray

Samples = NDArray[np.float32]

#: The length of the sound, and its burst.
SECONDS = 3.0
BURST_S = (1.2, 1.7)
BURST_HZ, BURST_AMPLITUDE = 1_000.0, 0.3
NOISE_RMS = 0.001


@dataclass(frozen=True)
class Shape:
    """A recording, and what its decoding should give.

    ``late_s`` and ``early_s`` are how much later or earlier than in the sound its burst may be,
    because encoders and containers add some padding at the start; ``lasts_s`` and ``begins_s`` are
    the length and the beginning of the audio on the clock of the file; ``longer_s`` is the padding
    at its end, ``error_db`` the tolerance of its level, and ``missing_s`` what it lacks.
    """

    name: str
    make: Callable[[], bytes]
    container: str
    rate_hz: int
    n_channels: int = 1
    late_s: float = 0.002
    early_s: float = 0.003
    error_db: float = 0.1
    lasts_s: float = SECONDS
    longer_s: float = 0.01
    begins_s: float = 0.0
    missing_s: float = 0.0


@cache
def sound(rate_hz: int, n_channels: int = 1) -> Samples:
    """Return the sound [shape=(n, n_channels)]."""
    n_frames = round(SECONDS * rate_hz)
    times = np.arange(n_frames) / rate_hz
    samples = np.random.default_rng(0).normal(0, NOISE_RMS, n_frames)
    inside = (times >= BURST_S[0]) & (times < BURST_S[1])
    samples[inside] += BURST_AMPLITUDE * np.sin(2 * np.pi * BURST_HZ * times[inside])
    return np.repeat(samples[:, None], n_channels, axis=1).astype(np.float32)


def onset_s(samples: Samples, rate_hz: int) -> float:
    """Return when the burst begins in decoded audio, to a millisecond."""
    n_step = max(rate_hz // 1_000, 1)
    peaks = np.abs(samples[:, 0])
    peaks = peaks[: len(peaks) // n_step * n_step].reshape(-1, n_step).max(axis=1)
    return float(np.argmax(peaks > BURST_AMPLITUDE / 3)) * n_step / rate_hz


class Track(TypedDict, total=False):
    """Options of `by_ffmpeg`."""

    n_channels: int
    #: When the audio begins, in seconds.
    begins_s: float
    #: The packets of audio that are lost.
    without: range
    #: Seconds of video.
    video_s: float
    bit_rate: int
    #: Options of the container.
    options: dict[str, str]


def by_ffmpeg(kind: str, codec: str, rate_hz: int, **track: Unpack[Track]) -> bytes:
    """Encode the sound by FFmpeg."""
    file = io.BytesIO()
    n_channels = track.get("n_channels", 1)
    layout = {1: "mono", 2: "stereo", 4: "4.0", 6: "5.1"}[n_channels]
    with av.open(file, "w", format=kind, options=track.get("options", {})) as container:
        video = _video(container, kind) if track.get("video_s") else None
        stream = container.add_stream(codec, rate=rate_hz, layout=layout)
        assert isinstance(stream, av.AudioStream)
        if "bit_rate" in track:
            stream.bit_rate = track["bit_rate"]
        if video is not None:
            _add_pictures(container, video, seconds=track["video_s"])
        packed = sound(rate_hz, n_channels).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(packed), "flt", layout)
        frame.sample_rate, frame.pts = rate_hz, 0
        resampler = av.AudioResampler(
            format=stream.codec_context.format,
            layout=layout,
            rate=rate_hz,
            frame_size=stream.codec_context.frame_size or 960,
        )
        index = 0
        for part in [*resampler.resample(frame), *resampler.resample(None), None]:
            if part is not None and part.pts is not None:
                part.pts += round(track.get("begins_s", 0.0) * rate_hz)
            for packet in stream.encode(part):
                if index not in track.get("without", range(0)):
                    container.mux(packet)
                index += 1
    return file.getvalue()


def pictures(kind: str, *, seconds: float) -> bytes:
    """Return a video without audio."""
    file = io.BytesIO()
    with av.open(file, "w", format=kind) as container:
        _add_pictures(container, _video(container, kind), seconds=seconds)
    return file.getvalue()


def _video(container: av.container.OutputContainer, kind: str) -> av.VideoStream:
    codecs = {"mpeg": "mpeg2video", "mpegts": "mpeg2video", "flv": "flv", "webm": "libvpx"}
    stream = container.add_stream(codecs.get(kind, "mpeg4"), rate=25)
    assert isinstance(stream, av.VideoStream)
    stream.width = stream.height = 64
    stream.pix_fmt = "yuv420p"
    return stream


def _add_pictures(
    container: av.container.OutputContainer, stream: av.VideoStream, *, seconds: float
) -> None:
    for index in range(round(25 * seconds)):
        frame = av.VideoFrame(64, 64, "yuv420p")
        frame.pts = index
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def by_libsndfile(
    kind: str, subtype: str, rate_hz: int, *, n_channels: int = 1, endian: str | None = None
) -> bytes:
    """Encode the sound by libsndfile."""
    file = io.BytesIO()
    soundfile.write(
        file, sound(rate_hz, n_channels), rate_hz, format=kind, subtype=subtype, endian=endian
    )
    return file.getvalue()


def changed(make: Callable[[], bytes], *changes: tuple[bytes, int, bytes]) -> bytes:
    """Replace bytes at a distance from the first occurrence of a mark."""
    data = bytearray(make())
    for mark, distance, replacement in changes:
        at = data.index(mark) + distance
        data[at : at + len(replacement)] = replacement
    return bytes(data)


def at_both_ends(make: Callable[[], bytes], before: bytes, after: bytes = b"") -> bytes:
    """Add bytes before and after a file."""
    return before + make() + after


def inserted(make: Callable[[], bytes], at: int, content: bytes) -> bytes:
    """Add bytes inside a file."""
    data = make()
    return data[:at] + content + data[at:]


def cut(make: Callable[[], bytes], start: int, stop: int | None = None) -> bytes:
    """Return a part of a file."""
    return make()[start:stop]


def _riff_chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)


GUANO = _riff_chunk(b"guan", b"GUANO|Version: 1.0\nMake: Open Acoustic Devices\n")
LIST = _riff_chunk(b"LIST", b"INFO" + _riff_chunk(b"ICMT", b"Recorded at dusk"))
AIFF_NOTE = b"ANNO" + struct.pack(">I", 8) + b"at dusk."
CAF_NOTE = b"uuid" + struct.pack(">q", 20) + bytes(range(20))
#: Tags of ID3 version 2.3 and of APE version 2, with the length of their padding.
ID3_BYTES = 300


def id3(declared: int) -> bytes:
    """Return a tag that declares some length, but has `ID3_BYTES`."""
    size = bytes(declared >> shift & 0x7F for shift in (21, 14, 7, 0))
    return b"ID3\x03\0\0" + size + bytes(ID3_BYTES)


APE_TAG = b"APETAGEX" + struct.pack("<III", 2_000, 32, 0) + bytes(12) + b"\1" * 32
