"""Recordings of AudioMoth with a trigger, in which blocks stand for what was not recorded."""

from __future__ import annotations

import io
import struct
import time

import numpy as np
import pytest

from actors.science.audio_io.audiomoth import AudioMothExpander
from actors.science.audio_io.decode import open_recording
from actors.science.audio_io.holes import MOST_HOLES
from actors.science.types import Hole, HoleKind
from tests.integration.science.audio_io.recorded import Recorded, opened

RATE_HZ = 48_000
#: Bytes of AudioMoth's header, after which blocks are aligned to 512 bytes of the file.
HEADER_BYTES = 488
COMMENT = b"Recorded at 21:00:00 01/05/2024 (UTC) by AudioMoth 24F3190A5E12345B at medium gain"


def mark(n_blocks: int) -> bytes:
    bits = [1 if n_blocks >> bit & 1 else -1 for bit in range(32)]
    return struct.pack("<32h", *bits) + bytes(448)


def recorded(
    content: bytes, *, comment: bytes = COMMENT, header_bytes: int = HEADER_BYTES
) -> bytes:
    note = comment.ljust(header_bytes - 12 - 24 - 12 - 8 - 8, b"\0")
    chunks = (
        b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, RATE_HZ, 2 * RATE_HZ, 2, 16)
        + b"LIST" + struct.pack("<I", 12 + len(note)) + b"INFOICMT"
        + struct.pack("<I", len(note)) + note + b"data" + struct.pack("<I", len(content))
    )  # fmt: skip
    data = b"RIFF" + struct.pack("<I", len(chunks) + len(content)) + chunks + content
    assert len(data) == header_bytes + len(content)
    return data


def sound(n_samples: int, seed: int = 0) -> bytes:
    return np.random.default_rng(seed).integers(-9, 9, n_samples).astype("<i2").tobytes()


def listen(data: bytes) -> tuple[np.ndarray[tuple[int], np.dtype[np.int16]], list[Hole], float]:
    with open_recording(io.BytesIO(data)) as decoder:
        samples = np.concatenate(list(decoder.blocks(5_000)))[:, 0] * 32_768
        return samples.astype("<i2"), decoder.holes, decoder.missing_s


@pytest.mark.parametrize("header_bytes", [HEADER_BYTES, 512, 200])
@pytest.mark.parametrize("n_blocks", [1, 2, 5_000])
def test_marks_stand_for_the_time_below_the_trigger(n_blocks: int, header_bytes: int) -> None:
    n_before = (-header_bytes % 512) // 2
    parts = [sound(n_before + 40 * 256, 1), sound(300 * 256, 2), sound(100, 3)]
    content = parts[0] + mark(n_blocks) + parts[1] + mark(3) + mark(2) + parts[2]
    samples, holes, missing_s = listen(recorded(content, header_bytes=header_bytes))
    silence = bytes(512 * n_blocks)
    expected = parts[0] + silence + parts[1] + bytes(512 * 5) + parts[2]
    assert samples.tobytes() == expected
    starts = (n_before + 40 * 256, n_before + (340 + n_blocks) * 256)
    assert holes == [
        Hole(starts[0], starts[0] + n_blocks * 256, HoleKind.NOT_TRIGGERED),
        Hole(starts[1], starts[1] + 5 * 256, HoleKind.NOT_TRIGGERED),
    ]
    assert missing_s == 0


def test_other_recordings_and_other_blocks_are_sound() -> None:
    content = sound(12) + sound(256) + mark(7) + sound(256)
    assert listen(recorded(content, comment=b"Recorded by another"))[0].tobytes() == content
    huge = sound(12) + mark(1 << 31) + sound(256)
    assert listen(recorded(huge))[0].tobytes() == huge
    shifted = sound(13) + mark(7) + sound(256)
    assert listen(recorded(shifted))[0].tobytes() == shifted


def test_a_file_that_is_cut_lacks_only_its_end() -> None:
    content = sound(12) + sound(256 * 500) + mark(1_000) + sound(256 * 500)
    data = recorded(content)
    _, holes, missing_s = listen(data[: HEADER_BYTES + len(content) - 256 * 500])
    assert [hole.n_frames for hole in holes] == [256_000]
    assert missing_s > 0


def test_the_length_in_the_header_is_not_that_of_the_recording() -> None:
    with open_recording(io.BytesIO(recorded(sound(12) + mark(7)))) as decoder:
        assert decoder.format.n_frames is None
    with open_recording(io.BytesIO(recorded(sound(12), comment=b"Recorded by another"))) as decoder:
        assert decoder.format.n_frames == 12


def test_very_many_marks_take_time_in_proportion_and_give_few_holes() -> None:
    content = np.frombuffer((sound(256) + mark(3)) * 1_000, "<i2")
    samples = (content / 32_768).astype(np.float32)[:, None]
    recorded = Recorded(samples, rate_hz=RATE_HZ, repeated=100)
    decoder = opened(AudioMothExpander(recorded, n_before=0))
    begun_s = time.process_time()
    n_frames, n_seen = 0, 0
    for block in decoder.blocks():
        n_frames += len(block)
        n_seen = max(n_seen, len(decoder.holes))
    assert time.process_time() - begun_s < 30
    assert n_frames == 100_000 * 4 * 256
    assert n_seen <= MOST_HOLES
    assert decoder.holes[0].start == 256
    assert decoder.holes[-1].stop == n_frames
