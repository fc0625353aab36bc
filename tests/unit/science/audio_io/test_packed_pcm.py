"""Packed audio: any part of any audio comes back as it was, or not at all."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.science.audio_io import packed_pcm
from actors.science.audio_io.packed_pcm import FRAME, DamagedPcm, PackedPcm, Packer
from actors.science.audio_io.prepare import PCM_BYTES
from actors.science.detection.chunks import RATE_HZ

#: Around the ends of frames, and anything else.
LENGTHS = st.one_of(
    st.integers(0, 3 * FRAME),
    st.builds(
        lambda frames, more: max(0, frames * FRAME + more), st.integers(0, 3), st.integers(-2, 2)
    ),
)


class File:
    """A file in memory that records its reads."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.reads: list[int] = []

    def end(self, length: int) -> tuple[bytes, int]:
        self.reads.append(length)
        return self.content[-length:], len(self.content)

    def range(self, start: int, length: int) -> bytes:
        self.reads.append(length)
        return self.content[start : start + length]

    def opened(self) -> PackedPcm:
        return PackedPcm(self.end, self.range)


def packed(pieces: Iterable[bytes]) -> bytes:
    out: list[bytes] = []
    packer = Packer(out.append)
    for piece in pieces:
        packer.write(piece)
    packer.finish()
    return b"".join(out)


def noise(n_samples: int, *, scale: float = 1_000.0) -> bytes:
    values = np.random.default_rng(1).normal(scale=scale, size=n_samples)
    return np.clip(values.round(), -32_768, 32_767).astype("<i2").tobytes()


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_range_of_any_audio_comes_back_to_the_bit(data: st.DataObject) -> None:
    n_samples = data.draw(LENGTHS)
    scale = data.draw(st.sampled_from([0.0, 3.0, 1_000.0, 60_000.0]))
    pcm = noise(n_samples, scale=scale)
    block = data.draw(st.integers(1_000, 2 * FRAME)) * PCM_BYTES
    content = packed(pcm[at : at + block] for at in range(0, len(pcm), block))
    assert content == packed([pcm])
    found = File(content).opened()
    assert found.n_samples == n_samples
    for _ in range(4):
        start, stop = sorted(data.draw(st.tuples(*[st.integers(0, n_samples)] * 2)))
        assert found.read(start, stop) == pcm[start * PCM_BYTES : stop * PCM_BYTES]
    assert found.read(0, n_samples) == pcm


def test_a_part_takes_one_read_beside_that_of_the_index() -> None:
    pcm = noise(7 * FRAME + 1)
    file = File(packed([pcm]))
    found = file.opened()
    start, stop = FRAME - 400, 4 * FRAME + 400
    assert found.read(start, stop) == pcm[start * PCM_BYTES : stop * PCM_BYTES]
    assert len(file.reads) == 2
    # What follows within the same frames is not read again.
    found.read(stop - 800, stop)
    found.read(4 * FRAME, 5 * FRAME)
    assert len(file.reads) == 2


def test_a_longer_index_takes_one_more_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed_pcm, "END_BYTES", 100)
    silence = bytes(FRAME * PCM_BYTES)
    n_frames = 15
    file = File(packed(silence for _ in range(n_frames)))
    found = file.opened()
    assert found.n_samples == n_frames * FRAME
    assert len(file.reads) == 2
    assert found.read(n_frames * FRAME - 5, n_frames * FRAME) == bytes(5 * PCM_BYTES)


@pytest.mark.parametrize("value", [0, 1, -1, 32_767])
def test_silence_and_constants_shrink_a_thousandfold(value: int) -> None:
    pcm = np.full(600 * RATE_HZ, value, "<i2").tobytes()
    assert len(packed([pcm])) < len(pcm) / 1_000


@pytest.mark.parametrize("scale", [1_000.0, 60_000.0])
def test_what_hardly_shrinks_stays_as_it_is(scale: float) -> None:
    pcm = noise(6 * FRAME, scale=scale)
    content = packed([pcm])
    assert content.startswith(pcm)
    assert len(content) < len(pcm) + 100


def test_sounds_in_silence_are_packed() -> None:
    pcm = bytes(3 * FRAME) + noise(FRAME // 4) + bytes(3 * FRAME)
    content = packed([pcm])
    assert len(content) < FRAME
    assert File(content).opened().read(0, len(pcm) // PCM_BYTES) == pcm


def test_memory_does_not_grow_with_the_audio() -> None:
    longest = 0
    packer = Packer(lambda piece: None)
    for _ in range(50):
        packer.write(bytes(FRAME))
        longest = max(longest, len(packer._rest))
    assert longest < FRAME * PCM_BYTES


#: One is compressed, the other is not.
WHOLE = [packed([noise(FRAME + 500, scale=scale)]) for scale in (2.0, 1_000.0)]


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(WHOLE), st.data(), st.integers(1, 255))
def test_a_changed_byte_is_found(whole: bytes, data: st.DataObject, change: int) -> None:
    content = bytearray(whole)
    content[data.draw(st.integers(0, len(whole) - 1))] ^= change
    with pytest.raises(DamagedPcm):
        File(bytes(content)).opened().read(0, FRAME + 500)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(WHOLE), st.data())
def test_missing_bytes_are_found(whole: bytes, data: st.DataObject) -> None:
    start, stop = sorted(data.draw(st.tuples(*[st.integers(0, len(whole))] * 2)))
    if start < stop:
        with pytest.raises(DamagedPcm):
            File(whole[:start] + whole[stop:]).opened()


def test_what_is_not_packed_is_found() -> None:
    for content in (b"", b"cpz1", noise(FRAME)):
        with pytest.raises(DamagedPcm):
            File(content).opened()
