"""Headers with wrong sizes: those of recorders that write into a pipe, and crafted ones."""

from __future__ import annotations

import io
import struct
import time
from pathlib import Path

import numpy as np
import pytest

from actors.science.audio_io import headers
from actors.science.audio_io.decode import open_recording
from actors.science.errors import RecordingError
from tests.support.corpus import SHAPES
from tests.support.shapes import SECONDS as SHAPE_SECONDS
from tests.support.sounds import encoded, noise

RATE_HZ = 16_000
SECONDS = 2
SOUND = noise(SECONDS * RATE_HZ)

#: 64-bit sizes that mean "unknown": of FFmpeg, of a recorder that was switched off, others.
UNKNOWN = [0, (1 << 64) - 1, (1 << 63) - 1, 1 << 62, 1 << 61, 1 << 45]


def listen(data: bytes) -> tuple[float, float]:
    """Return the decoded and the missing seconds."""
    with open_recording(io.BytesIO(data)) as decoder:
        n_frames = sum(map(len, decoder.blocks()))
        return n_frames / decoder.format.rate_hz, decoder.missing_s


def w64(*, riff_size: int, data_size: int) -> bytes:
    data = bytearray(encoded(SOUND, rate_hz=RATE_HZ, kind="W64", subtype="PCM_16"))
    at = data.find(b"data\xf3\xac") + 16
    data[16:24] = struct.pack("<Q", riff_size)
    data[at : at + 8] = struct.pack("<Q", data_size)
    return bytes(data)


def rf64(*, riff_size: int, data_size: int, n_frames: int) -> bytes:
    data = bytearray(encoded(SOUND, rate_hz=RATE_HZ, kind="RF64", subtype="PCM_16"))
    at = data.find(b"ds64") + 8
    data[at : at + 24] = struct.pack("<QQQ", riff_size, data_size, n_frames)
    return bytes(data)


@pytest.mark.parametrize("size", UNKNOWN)
def test_unknown_sizes_mean_to_the_end(size: int) -> None:
    assert listen(w64(riff_size=size, data_size=size)) == (SECONDS, 0)
    assert listen(w64(riff_size=100, data_size=size)) == (SECONDS, 0)
    for n_frames in (0, size):
        assert listen(rf64(riff_size=size, data_size=size, n_frames=n_frames)) == (SECONDS, 0)


def test_the_header_of_ffmpeg_writing_wave64_into_a_pipe() -> None:
    assert listen(w64(riff_size=(1 << 64) - 1, data_size=(1 << 63) - 1)) == (SECONDS, 0)


@pytest.mark.parametrize("size", [0, 0xFFFF_FFFF, 0x7FFF_FFFF])
def test_an_rf64_file_may_have_no_size_at_all(size: int) -> None:
    data = bytearray(rf64(riff_size=0, data_size=0, n_frames=0))
    at = data.find(b"data") + 4
    data[at : at + 4] = struct.pack("<I", size)
    assert listen(bytes(data)) == (SECONDS, 0)


def test_a_size_that_a_file_may_have_is_taken_at_its_word() -> None:
    promised = 2 * 5 * RATE_HZ
    for data in (
        w64(riff_size=promised, data_size=promised + 24),
        rf64(riff_size=promised, data_size=promised, n_frames=5 * RATE_HZ),
    ):
        held_s, missing_s = listen(data)
        assert held_s == SECONDS
        assert missing_s == pytest.approx(5 - SECONDS)


@pytest.mark.parametrize("kind", ["W64", "RF64", "WAV", "AIFF", "FLAC", "OGG"])
def test_a_damaged_header_raises_nothing_but_own_errors(kind: str) -> None:
    """Library messages stay inside, and library errors do not look like storage errors."""
    subtype = None if kind in ("FLAC", "OGG") else "PCM_16"
    whole = encoded(SOUND[:4_000], rate_hz=RATE_HZ, kind=kind, subtype=subtype)
    rng = np.random.default_rng(7)
    outcomes: set[str] = set()
    for _ in range(300):
        data = bytearray(whole)
        for at in rng.integers(0, 120, rng.integers(1, 12)):
            data[at] = rng.choice([0, 127, 128, 255, int(rng.integers(0, 256))])
        try:
            outcomes.add("decoded" if listen(bytes(data))[0] else "nothing")
        except RecordingError as error:
            outcomes.add(error.code)
    assert {"undecodable", "unknown-format"} <= outcomes


def test_only_whole_chunks_at_the_end_are_not_sound() -> None:
    """Audio that happens to contain the name of a chunk is kept."""
    data = bytearray(encoded(SOUND, rate_hz=RATE_HZ, kind="WAV", subtype="PCM_16"))
    at = data.find(b"data") + 4
    data[at : at + 4] = bytes(4)
    held = len(data) - at - 4
    for place, size in ((held - 100, 89), (held - 100, 93), (held // 2, 0), (held - 8, 1)):
        changed = bytearray(data)
        changed[at + 4 + place : at + 12 + place] = b"LIST" + struct.pack("<I", size)
        assert listen(bytes(changed)) == (SECONDS, 0)
    chunk = b"LIST" + struct.pack("<I", 92) + bytes(92)
    assert listen(bytes(data) + chunk + chunk) == (SECONDS, 0)
    assert listen(bytes(data) + chunk + chunk[:-2]) == (SECONDS + 99 / RATE_HZ, 0)


@pytest.mark.parametrize("chunk", [b"LIST" + bytes(4), b"LIST", b"LIST" + struct.pack("<I", 8)])
def test_an_end_that_consists_of_chunks_is_searched_once(chunk: bytes) -> None:
    """Each chunk used to be followed to the end of the file, from each of the marks."""
    data = bytearray(encoded(SOUND, rate_hz=RATE_HZ, kind="WAV", subtype="PCM_16"))
    at = data.find(b"data") + 4
    data[at : at + 4] = bytes(4)
    file = io.BytesIO(bytes(data) + chunk * ((1 << 20) // len(chunk)) + b"!")
    begun_s = time.process_time()
    headers.wave(file)
    assert time.process_time() - begun_s < 5


def test_the_first_of_several_chunks_at_the_end_is_the_end_of_the_audio() -> None:
    data = bytearray(encoded(SOUND, rate_hz=RATE_HZ, kind="WAV", subtype="PCM_16"))
    at = data.find(b"data") + 4
    data[at : at + 4] = bytes(4)
    chunks = b"".join(
        name + struct.pack("<I", size) + bytes(size + size % 2)
        for name, size in ((b"junk", 0), (b"LIST", 7), (b"guan", 400), (b"bext", 0))
    )
    assert listen(bytes(data) + chunks) == (SECONDS, 0)
    assert listen(bytes(data) + chunks + b"sound!!!") > (SECONDS, 0)


@pytest.mark.parametrize("is_cut", [True, False])
def test_audio_in_a_second_data_chunk_is_missing(is_cut: bool) -> None:
    """Decoders only read the first one."""
    data = encoded(SOUND, rate_hz=RATE_HZ, kind="WAV")
    twice = data + data[data.index(b"data") :]
    held_s, missing_s = listen(twice[:-RATE_HZ] if is_cut else twice)
    assert held_s == pytest.approx(SECONDS)
    assert missing_s == pytest.approx(SECONDS - 0.5 if is_cut else SECONDS, abs=0.01)


def test_audio_beyond_the_sizes_of_a_wave_file_is_read(tmp_path: Path) -> None:
    """The size of 4 GiB and a second is a second in 32 bits."""
    n_bytes = (1 << 32) + 2 * RATE_HZ
    header = bytearray(encoded(SOUND[:RATE_HZ], rate_hz=RATE_HZ, kind="WAV", subtype="PCM_16")[:44])
    header[40:44] = struct.pack("<I", n_bytes & 0xFFFF_FFFF)
    with (tmp_path / "long.wav").open("w+b") as file:
        file.write(header)
        # Digital silence that takes no space.
        file.truncate(len(header) + n_bytes)
        with open_recording(file) as decoder:
            n_frames = 0
            for block in decoder.blocks():
                n_frames += len(block)
                if n_frames > 3 * RATE_HZ:
                    break
    assert n_frames > 3 * RATE_HZ
    assert decoder.format.n_frames is None


def test_joined_files_of_the_oldest_format() -> None:
    """Each gets a longer header, which begins before it."""
    old = next(shape for shape in SHAPES if shape.name == "wav-PCM_16-None-14").make()
    assert listen(2 * old) == (2 * SHAPE_SECONDS, 0)
