"""Decoding: all containers, all kinds of truncation and damage, and no details in messages."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from actors.science.audio_io import av_files
from actors.science.audio_io.decode import open_recording
from actors.science.errors import (
    EmptyRecording,
    RecordingError,
    Undecodable,
    UnknownAudioFormat,
    UnsupportedLayout,
)
from actors.science.types import AudioFormat
from tests.support import decompression_bombs
from tests.support.sounds import encoded, encoded_av, noise

RATE_HZ = 16_000
N_FRAMES = 3 * RATE_HZ + 17
SOUND = noise(N_FRAMES)


def listen(data: bytes, *, n_frames: int = 4_001) -> tuple[NDArray[np.float32], float, AudioFormat]:
    with open_recording(io.BytesIO(data)) as decoder:
        blocks = list(decoder.blocks(n_frames))
        assert all(len(block) == n_frames for block in blocks[:-1])
        return np.concatenate(blocks), decoder.missing_s, decoder.format


def wav() -> bytearray:
    return bytearray(encoded(SOUND, rate_hz=RATE_HZ, kind="WAV", subtype="PCM_16"))


@pytest.mark.parametrize(
    ("kind", "subtype", "container"),
    [
        ("WAV", "PCM_16", "wav"),
        ("WAV", "PCM_24", "wav"),
        ("WAV", "FLOAT", "wav"),
        ("RF64", "PCM_16", "rf64"),
        ("W64", "PCM_16", "w64"),
        ("AIFF", "PCM_16", "aiff"),
        ("FLAC", "PCM_16", "flac"),
    ],
)
def test_lossless_files_come_out_as_they_went_in(kind: str, subtype: str, container: str) -> None:
    sound = noise(N_FRAMES, n_channels=2)
    data = encoded(sound, rate_hz=RATE_HZ, kind=kind, subtype=subtype)
    samples, missing_s, audio = listen(data)
    np.testing.assert_allclose(samples, sound, atol=2**-15)
    assert samples.dtype == np.float32
    assert missing_s == 0
    assert (audio.container, audio.rate_hz, audio.n_channels) == (container, RATE_HZ, 2)
    assert audio.n_frames == N_FRAMES


@pytest.mark.parametrize("kind", ["OGG", "MP3"])
def test_lossy_files_keep_their_length(kind: str) -> None:
    samples, missing_s, audio = listen(encoded(SOUND, rate_hz=RATE_HZ, kind=kind))
    assert len(samples) == N_FRAMES
    assert missing_s == 0
    assert audio.container == kind.lower()


@pytest.mark.parametrize(
    ("kind", "codec", "container"),
    [
        ("ipod", "aac", "mp4"),
        ("ipod", "alac", "mp4"),
        ("adts", "aac", "aac"),
        ("webm", "libopus", "webm"),
        ("ogg", "libopus", "ogg"),
    ],
)
def test_ffmpeg_reads_the_rest(kind: str, codec: str, container: str) -> None:
    data = encoded_av(SOUND, rate_hz=RATE_HZ, kind=kind, codec=codec)
    samples, missing_s, audio = listen(data)
    assert audio.container == container
    assert len(samples) / audio.rate_hz == pytest.approx(N_FRAMES / RATE_HZ, abs=0.2)
    assert missing_s == 0
    assert float(np.sqrt((samples**2).mean())) == pytest.approx(0.143, rel=0.1)


@pytest.mark.parametrize("n_frames", [1, 999, N_FRAMES - 1, N_FRAMES, N_FRAMES + 1, 10**7])
def test_blocks_of_any_length_hold_the_same_audio(n_frames: int) -> None:
    if n_frames == 1:
        data = encoded(SOUND[:50], rate_hz=RATE_HZ, kind="FLAC")
    else:
        data = encoded(SOUND, rate_hz=RATE_HZ, kind="FLAC")
    samples, _, _ = listen(data, n_frames=n_frames)
    whole, _, _ = listen(data)
    np.testing.assert_array_equal(samples, whole)


@pytest.mark.parametrize("kind", ["WAV", "RF64", "W64", "AIFF", "FLAC", "MP3"])
def test_what_a_cut_off_file_lacks_is_told(kind: str) -> None:
    data = encoded(SOUND, rate_hz=RATE_HZ, kind=kind)
    samples, missing_s, _ = listen(data[: len(data) * 6 // 10])
    held_s = len(samples) / RATE_HZ
    assert 1.2 < held_s < 1.9
    assert held_s + missing_s == pytest.approx(N_FRAMES / RATE_HZ, abs=0.2)


@pytest.mark.parametrize("size", [0, 0xFFFF_FFFF, 0x7FFF_FFFF, 0x7FFF_F000])
def test_a_streaming_recorder_promises_nothing(size: int) -> None:
    data = wav()
    at = data.find(b"data") + 4
    data[at : at + 4] = struct.pack("<I", size)
    data[4:8] = struct.pack("<I", size)
    samples, missing_s, _ = listen(bytes(data))
    assert len(samples) == N_FRAMES
    assert missing_s == 0


def test_a_header_that_promises_more_is_taken_at_its_word() -> None:
    data = wav()
    at = data.find(b"data") + 4
    data[at : at + 4] = struct.pack("<I", 2 * (N_FRAMES + RATE_HZ))
    samples, missing_s, _ = listen(bytes(data))
    assert len(samples) == N_FRAMES
    assert missing_s == pytest.approx(1.0, abs=0.001)


def test_chunks_around_the_audio_are_stepped_over() -> None:
    data = wav()
    at = data.find(b"data")
    note = b"LIST" + struct.pack("<I", 5) + b"abcde\0"
    samples, missing_s, _ = listen(bytes(data[:at]) + note + bytes(data[at:]) + note)
    assert len(samples) == N_FRAMES
    assert missing_s == 0


def test_a_joined_mp3_is_read_to_its_end() -> None:
    one = encoded(SOUND, rate_hz=RATE_HZ, kind="MP3")
    samples, missing_s, _ = listen(one + b"TAG" + bytes(125) + one)
    assert len(samples) > 1.95 * N_FRAMES
    assert missing_s == 0


def test_an_id3_tag_is_stepped_over() -> None:
    tag = b"ID3\x04\x00\x00" + bytes([0, 0, 1, 5]) + bytes(133)
    for kind in ("MP3", "FLAC"):
        samples, _, audio = listen(tag + encoded(SOUND, rate_hz=RATE_HZ, kind=kind))
        assert audio.container == kind.lower()
        assert len(samples) == N_FRAMES


@pytest.mark.parametrize(
    "content",
    [
        b"hello world" * 50,
        b"<html><body>no</body></html>",
        b"\xff\xd8\xff\xe0" + bytes(200),
        "a text".encode("utf-16"),
        b"%PDF-1.7" + bytes(100),
        b"PK\x03\x04" + bytes(100),
        b"#EXTM3U\nhttp://example.org/a.ts\n",
        b"ffconcat version 1.0\nfile other.wav\n",
        b"RIFF\x10\0\0\0WEBP" + bytes(50),
        b"\0",
    ],
)
def test_other_files_are_of_no_known_format(content: bytes) -> None:
    with pytest.raises(UnknownAudioFormat), open_recording(io.BytesIO(content)):
        pass


@pytest.mark.parametrize(
    "start",
    [
        b"fLaC",
        b"OggS\0\x02",
        b"OggS\0\x02" + bytes(20) + b"\x01\x13OpusHead",
        b"\0\0\0\x20ftypM4A ",
        b"\x1a\x45\xdf\xa3\x93\x42\x82\x88matroska\x42\x87\x81\x04",
        b"RIFF\x10\0\0\0AVI ",
        b"\0\0\1\xba",
        b"\0\0\0\x08wide\0\0\0\0mdat",
    ],
)
def test_garbage_behind_a_good_start_cannot_be_decoded(start: bytes) -> None:
    garbage = start + np.random.default_rng(3).bytes(3_000)
    with pytest.raises((Undecodable, EmptyRecording)):
        listen(garbage)


def test_a_wave_file_without_audio_chunk_cannot_be_decoded() -> None:
    with pytest.raises(Undecodable):
        listen(b"RIFF\x04\0\0\0WAVE")


def test_no_bytes_and_no_frames_are_an_empty_recording() -> None:
    for data in (b"", encoded(SOUND[:0], rate_hz=RATE_HZ, kind="WAV")):
        with pytest.raises(EmptyRecording):
            listen(data)


@pytest.mark.parametrize(
    ("rate_hz", "n_channels"), [(3_999, 1), (768_001, 1), (16_000, 65), (1, 1)]
)
def test_layouts_beyond_the_limits_are_refused(rate_hz: int, n_channels: int) -> None:
    data = encoded(np.zeros((10, n_channels)), rate_hz=rate_hz, kind="WAV")
    with pytest.raises(UnsupportedLayout):
        listen(data)


@pytest.mark.parametrize(("rate_hz", "n_channels"), [(4_000, 1), (768_000, 1), (16_000, 64)])
def test_layouts_at_the_limits_are_read(rate_hz: int, n_channels: int) -> None:
    data = encoded(np.zeros((10, n_channels)), rate_hz=rate_hz, kind="WAV")
    samples, _, _ = listen(data)
    assert samples.shape == (10, n_channels)


class FailingFile(io.BytesIO):
    """A storage that fails after some reads."""

    name = "/secret/place/recording.flac"
    reads_left = 10

    def read(self, size: int | None = -1) -> bytes:
        self.reads_left -= 1
        if self.reads_left < 0:
            raise ConnectionError("storage is away")
        return super().read(size)


@pytest.mark.parametrize("codec", ["flac", "alac"])
def test_a_storage_that_fails_is_no_damaged_recording(codec: str) -> None:
    if codec == "flac":
        data = encoded(noise(30 * RATE_HZ), rate_hz=RATE_HZ, kind="FLAC")
    else:
        data = encoded_av(noise(30 * RATE_HZ), rate_hz=RATE_HZ, kind="ipod", codec=codec)
    with (
        pytest.raises(ConnectionError, match="away"),
        open_recording(FailingFile(data)) as decoder,
    ):
        list(decoder.blocks())


def test_the_file_stays_open_and_is_never_named() -> None:
    file = FailingFile(b"fLaC" + bytes(500))
    with pytest.raises(RecordingError) as caught, open_recording(file):
        pass
    assert "secret" not in str(caught.value)
    assert not file.closed


def test_errors_have_codes_and_sentences() -> None:
    assert Undecodable.code == "undecodable"
    assert str(Undecodable())
    assert str(Undecodable("more")) == "more"
    assert issubclass(UnsupportedLayout, RecordingError)


#: Prints the cost of decoding a file: its error, and the peak memory in megabytes.
COST = """
import resource, sys
from actors.science.audio_io import decode
from actors.science.errors import RecordingError
def peak_mb(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
before = peak_mb()
try:
    with open(sys.argv[1], "rb") as file, decode.open_recording(file) as decoder:
        seconds = sum(map(len, decoder.blocks())) / decoder.format.rate_hz
        print(round(seconds), end=" ")
except RecordingError as error:
    print(type(error).__name__, end=" ")
print(peak_mb() - before)
"""


@pytest.mark.parametrize(
    ("make", "found"),
    [
        # An index of 60 million packets would take 1.4 GB; an hour of audio is 230 MB.
        (
            lambda: decompression_bombs.counting(decompression_bombs.m4a(3), 60_000_000),
            "EmptyRecording",
        ),
        (
            lambda: decompression_bombs.without_length(decompression_bombs.long_silence(60)),
            "3600",
        ),
    ],
    ids=["tables", "silence"],
)
def test_a_small_file_costs_little_memory(
    tmp_path: Path, make: Callable[[], bytes], found: str
) -> None:
    file = tmp_path / "bomb"
    file.write_bytes(make())
    # In a separate process, since the peak memory of this one includes other tests.
    told = subprocess.run(
        [sys.executable, "-c", COST, file], check=True, capture_output=True, text=True
    )
    outcome, cost_mb = told.stdout.split()
    assert outcome == found
    assert int(cost_mb) < 150


def test_a_packet_stands_for_no_more_than_any_encoder_makes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    content = decompression_bombs.m4a(1)
    assert listen(content)[0].size
    monkeypatch.setattr(av_files, "MOST_FRAMES", 512)
    with pytest.raises(Undecodable):
        listen(content)


@pytest.mark.parametrize("kind", ["ipod", "mov", "3gp"])
def test_an_mp4_file_without_an_index_says_so(kind: str) -> None:
    """A phone or a dash camera that is switched off does not write it."""
    data = encoded_av(SOUND, rate_hz=RATE_HZ, kind=kind, codec="aac")
    at = data.index(b"moov") - 4
    assert at > len(data) // 2
    for cut_off in (data[:at], data[: at + 4], data[: at // 2]):
        with pytest.raises(Undecodable, match="no index"):
            listen(cut_off)
    assert listen(data)[1] == 0
