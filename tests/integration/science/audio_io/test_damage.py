"""Truncated and damaged files of every container end with audio or with an error of our own.

Any other error would be retried in vain, and its message might quote a library.
"""

from __future__ import annotations

import io
import zlib

import numpy as np
import pytest

from actors.science.audio_io.decode import open_recording
from actors.science.errors import RecordingError
from tests.support import shapes
from tests.support.corpus import SHAPES
from tests.support.shapes import SECONDS, by_ffmpeg

#: One shape of each container.
EXAMPLES = {shape.container: shape for shape in SHAPES if not shape.missing_s}
#: Damaged files of each.
N_CASES = 25


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
    changed = bytearray(data)
    how = rng.integers(5)
    at = int(rng.integers(1, len(changed)))
    if how == 0:
        return bytes(changed[:at])
    if how == 1:
        return bytes(changed[at:])
    if how == 2:
        n_bytes = int(rng.integers(1, 5_000))
        changed[at : at + n_bytes] = bytes(n_bytes) if rng.integers(2) else b""
        return bytes(changed)
    # The header, where every byte matters, or anywhere.
    reach = min(len(changed), 300) if how == 3 else len(changed)
    for place in rng.integers(0, reach, int(rng.integers(1, 20))):
        changed[place] = rng.choice([0, 1, 127, 128, 255, int(rng.integers(0, 256))])
    return bytes(changed)


@pytest.mark.parametrize("container", EXAMPLES)
def test_damage_raises_nothing_but_own_errors(container: str) -> None:
    rng = np.random.default_rng(zlib.crc32(container.encode()))
    whole = EXAMPLES[container].make()
    n_decoded = 0
    for _ in range(N_CASES):
        try:
            with open_recording(io.BytesIO(damaged(whole, rng))) as decoder:
                for block in decoder.blocks():
                    assert np.isfinite(block).all()
                n_decoded += 1
        except RecordingError:
            continue
    assert n_decoded


@pytest.mark.parametrize("container", ["amr", "mp3", "aac", "ac3"])
def test_bad_frames_do_not_end_a_stream(container: str) -> None:
    whole = EXAMPLES[container].make()
    middle = len(whole) // 2
    junk = b"\xff" * (len(whole) // 20)
    with open_recording(io.BytesIO(whole[:middle] + junk + whole[middle + len(junk) :])) as decoder:
        seconds = sum(map(len, decoder.blocks())) / decoder.format.rate_hz
    assert seconds == pytest.approx(SECONDS, abs=0.4)


#: Streams of frames without times: container, codec and rate.
STREAMS = [
    ("mp3", "libmp3lame", 44_100),
    ("mp2", "mp2", 48_000),
    ("adts", "aac", 44_100),
    ("latm", "aac", 44_100),
    ("ac3", "ac3", 48_000),
    ("eac3", "eac3", 48_000),
]


@pytest.mark.parametrize(("kind", "codec", "rate_hz"), STREAMS)
@pytest.mark.parametrize("has_header", [True, False])
def test_damaged_bytes_of_a_stream_are_a_hole(
    kind: str, codec: str, rate_hz: int, has_header: bool
) -> None:
    """Sound behind them used to move forward, and nothing was missing without a header."""
    whole = by_ffmpeg(kind, codec, rate_hz, options={} if has_header else {"write_xing": "0"})
    rng = np.random.default_rng(0)
    for begin_s, lasts_s, is_zeroed in ((0.4, 0.5, True), (0.7, 0.3, False), (0.9, 0.05, False)):
        begin, stop = (round(len(whole) * s / SECONDS) for s in (begin_s, begin_s + lasts_s))
        lost = bytes(stop - begin) if is_zeroed else rng.bytes(stop - begin)
        with open_recording(io.BytesIO(whole[:begin] + lost + whole[stop:])) as decoder:
            samples = np.concatenate(list(decoder.blocks()))
        assert len(samples) / rate_hz == pytest.approx(SECONDS, abs=0.15)
        [hole] = decoder.holes
        assert hole.start / rate_hz == pytest.approx(begin_s, abs=0.12)
        assert hole.n_frames / rate_hz == pytest.approx(lasts_s, abs=0.12)
        assert shapes.onset_s(samples, rate_hz) == pytest.approx(shapes.BURST_S[0], abs=0.1)


@pytest.mark.parametrize(("kind", "codec", "rate_hz"), STREAMS)
def test_what_is_cut_out_of_a_stream_is_a_hole(kind: str, codec: str, rate_hz: int) -> None:
    """Its length is unknown, but for that of the frames at its edges."""
    whole = by_ffmpeg(kind, codec, rate_hz)
    begin, stop = round(0.4 / SECONDS * len(whole)), round(0.9 / SECONDS * len(whole))
    with open_recording(io.BytesIO(whole[:begin] + whole[stop:])) as decoder:
        n_frames = sum(map(len, decoder.blocks()))
    [hole] = decoder.holes
    assert hole.start / rate_hz == pytest.approx(0.4, abs=0.12)
    assert n_frames / rate_hz == pytest.approx(SECONDS - 0.5, abs=0.2)


@pytest.mark.parametrize("tag", [shapes.id3(shapes.ID3_BYTES), b"TAG" + bytes(125)])
def test_a_tag_between_frames_is_no_hole(tag: bytes) -> None:
    part = by_ffmpeg("mp3", "libmp3lame", 44_100, options={"write_xing": "0", "id3v2_version": "0"})
    with open_recording(io.BytesIO(part + tag + part)) as decoder:
        seconds = sum(map(len, decoder.blocks())) / 44_100
    assert not decoder.holes
    assert seconds == pytest.approx(2 * SECONDS, abs=0.15)
