"""Truncated files are missing what the length in their header declares beyond their audio."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial

import pytest

from actors.science.audio_io.decode import open_recording
from tests.support.shapes import SECONDS, by_ffmpeg, by_libsndfile, changed

FILES = {
    "avi": partial(by_ffmpeg, "avi", "libmp3lame", 44_100),
    "avi-pcm": partial(by_ffmpeg, "avi", "pcm_s16le", 16_000),
    "avi-video": partial(by_ffmpeg, "avi", "libmp3lame", 44_100, video_s=6.0),
    "asf": partial(by_ffmpeg, "asf", "wmav2", 44_100, bit_rate=96_000),
    "flv": partial(by_ffmpeg, "flv", "libmp3lame", 44_100),
    "matroska-video": partial(by_ffmpeg, "matroska", "aac", 48_000, video_s=6.0),
    "matroska-late": partial(by_ffmpeg, "matroska", "aac", 48_000, video_s=6.0, begins_s=2.0),
    "webm": partial(by_ffmpeg, "webm", "libopus", 48_000),
    "nist": partial(by_libsndfile, "NIST", "PCM_16", 16_000),
    "voc": partial(by_libsndfile, "VOC", "PCM_16", 16_000),
}


def lengths(data: bytes) -> tuple[float, float]:
    """Return the decoded and the missing seconds."""
    with open_recording(io.BytesIO(data)) as decoder:
        n_frames = sum(map(len, decoder.blocks()))
        return n_frames / decoder.format.rate_hz, decoder.missing_s


@pytest.mark.parametrize("name", FILES)
def test_a_truncated_file_is_missing_its_end(name: str) -> None:
    data = FILES[name]()
    whole_s, missing_s = lengths(data)
    assert missing_s == 0
    # A muxer may write the audio before most of the video.
    held_s, n_bytes = whole_s, len(data)
    while held_s > whole_s - 0.4:
        n_bytes -= len(data) // 20
        held_s, missing_s = lengths(data[:n_bytes])
    assert held_s + missing_s == pytest.approx(whole_s, abs=0.1)


@pytest.mark.parametrize(
    ("name", "mark", "at", "size"),
    [
        ("nist", b"sample_count", 0, b"unknown_number"),
        ("voc", b"\x1a\x1a\x00", 8, bytes(3)),
        ("voc", b"\x1a\x1a\x00", 8, b"\xff" * 3),
        # The number of samples, as FFmpeg writes it into a pipe.
        ("avi-pcm", b"auds", 32, b"\0\0\0\x40"),
        # The flag of a broadcast.
        ("asf", bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365"), 88, b"\x01"),
    ],
)
def test_a_header_without_a_length_declares_nothing(
    name: str, mark: bytes, at: int, size: bytes
) -> None:
    data = changed(FILES[name], (mark, at, size))
    assert lengths(data[: len(data) * 6 // 10])[1] == 0


@pytest.mark.parametrize(
    ("make", "tolerance_s"),
    [
        # AAC in WAVE has no packets: FFmpeg decodes the first frame.
        (partial(by_ffmpeg, "wav", "aac", 48_000), 0.1),
        # Without the number of samples (`fact`), bytes are all there is.
        (partial(changed, partial(by_ffmpeg, "wav", "aac", 48_000), (b"fact", 0, b"junk")), 3.0),
    ],
)
def test_audio_that_cannot_be_decoded_to_the_end_is_missing(
    make: Callable[[], bytes], tolerance_s: float
) -> None:
    held_s, missing_s = lengths(make())
    assert 0 < held_s < 1 < SECONDS
    assert missing_s > 0.05
    assert held_s + missing_s == pytest.approx(SECONDS, abs=tolerance_s)
