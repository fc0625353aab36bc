"""Ogg files of which pages are lost or damaged: what follows keeps its time."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator

import numpy as np
import pytest

from actors.science.audio_io import ogg
from actors.science.audio_io.decode import open_recording
from actors.science.audio_io.patched_file import PatchedFile
from actors.science.types import Hole, HoleKind
from tests.support.shapes import Samples
from tests.support.sounds import encoded, encoded_av

RATE_HZ = 48_000
SECONDS = 8
#: A burst in the last second, by which the time of the sound behind a loss is checked.
BURST_S = (7.25, 7.5)


def sound() -> Samples:
    samples = np.random.default_rng(3).normal(0, 0.01, SECONDS * RATE_HZ)
    first, last = (round(each * RATE_HZ) for each in BURST_S)
    samples[first:last] += 0.3 * np.sin(2 * np.pi * 1_000 * np.arange(last - first) / RATE_HZ)
    return samples[:, None].astype(np.float32)


def in_ogg(codec: str) -> bytes:
    if codec == "flac":
        return encoded_av(sound(), rate_hz=RATE_HZ, kind="ogg", codec="flac")
    return encoded(sound(), rate_hz=RATE_HZ, kind="OGG", subtype=codec.upper())


def pages(data: bytes) -> list[bytes]:
    def each() -> Iterator[bytes]:
        at = 0
        while at < len(data):
            n_segments = data[at + 26]
            size = 27 + n_segments + sum(data[at + 27 : at + 27 + n_segments])
            yield data[at : at + size]
            at += size

    return list(each())


def end_s(page: bytes) -> float:
    """Return the time at which a page ends."""
    granule: int = struct.unpack_from("<q", page, 6)[0]
    return granule / RATE_HZ


def with_granules(page: bytes, *, later: int) -> bytes:
    """Return a page whose time is later, as of a stream that was recorded from its middle."""
    granule = struct.unpack_from("<q", page, 6)[0]
    changed = page[:6] + struct.pack("<q", granule + later * (granule > 0)) + page[14:]
    return changed[:22] + ogg._checksum(changed) + changed[26:]


def listen(data: bytes) -> tuple[Samples, list[Hole]]:
    with open_recording(io.BytesIO(data)) as decoder:
        return np.concatenate(list(decoder.blocks())), decoder.holes


def onset_s(samples: Samples) -> float:
    return int(np.argmax(np.abs(samples) > 0.15)) / RATE_HZ


@pytest.mark.parametrize("codec", ["vorbis", "opus", "flac"])
@pytest.mark.parametrize("later", [0, 10_000 * RATE_HZ])
@pytest.mark.parametrize("is_damaged", [True, False])
def test_lost_pages_are_a_hole_of_their_length(codec: str, later: int, is_damaged: bool) -> None:
    all_pages = pages(in_ogg(codec))
    middle = next(index for index, page in enumerate(all_pages) if 2 < end_s(page) < 5)
    start_s, stop_s = end_s(all_pages[middle - 1]), end_s(all_pages[middle + 1])
    all_pages = [with_granules(page, later=later) for page in all_pages]
    # Another byte, to which the checksum does not fit.
    damaged = [page[:-9] + b"\x55" + page[-8:] for page in all_pages[middle : middle + 2]]
    all_pages[middle : middle + 2] = damaged if is_damaged else []
    samples, holes = listen(b"".join(all_pages))
    assert [hole.kind for hole in holes] == [HoleKind.GAP]
    assert holes[0].start / RATE_HZ == pytest.approx(start_s, abs=0.03)
    assert holes[0].stop / RATE_HZ == pytest.approx(stop_s, abs=0.03)
    assert stop_s - start_s > 0.2
    assert len(samples) / RATE_HZ == pytest.approx(SECONDS, abs=0.03)
    assert onset_s(samples) == pytest.approx(BURST_S[0], abs=0.03)


@pytest.mark.parametrize("codec", ["vorbis", "opus", "flac"])
@pytest.mark.parametrize("later", [1 << 40, (1 << 63) - 1 - SECONDS * RATE_HZ])
def test_impossible_times_of_pages_lose_no_sound_silently(codec: str, later: int) -> None:
    all_pages = pages(in_ogg(codec))
    all_pages[5] = with_granules(all_pages[5], later=later)
    with open_recording(io.BytesIO(b"".join(all_pages))) as decoder:
        n_frames = sum(map(len, decoder.blocks()))
    assert not decoder.holes
    # FFmpeg does not read beyond the greatest positions of Opus.
    assert n_frames / RATE_HZ + decoder.missing_s == pytest.approx(SECONDS, abs=0.05)
    assert (decoder.missing_s > 0) == (codec == "opus" and later > 1 << 40)


def test_only_a_whole_stream_of_vorbis_is_one() -> None:
    def is_whole(data: bytes) -> bool:
        return ogg.is_whole_vorbis(PatchedFile(io.BytesIO(data), patches={}))

    whole = in_ogg("vorbis")
    parts = pages(whole)
    assert is_whole(whole)
    assert is_whole(b"".join(with_granules(page, later=10**9) for page in parts))
    assert not is_whole(in_ogg("opus"))
    assert not is_whole(whole[:-1])
    assert not is_whole(whole + bytes(100))
    assert not is_whole(b"".join(parts[:4] + parts[5:]))
    assert not is_whole(b"")
