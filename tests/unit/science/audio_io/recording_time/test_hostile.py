"""Crafted files neither fail nor make the reader read without bound."""

from __future__ import annotations

import io
import itertools
import struct
import time
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from actors.science.audio_io import chunks
from actors.science.audio_io.recording_time import finder, riff_chunks
from tests.support import recorder_files as files

CONTAINERS = (
    "wav",
    "rf64",
    "w64",
    "aiff",
    "caf",
    "flac",
    "ogg",
    "mp3",
    "mp4",
    "aac",
    "webm",
    "asf",
)
#: More than the reader ever reads of a file: the first chunk of each of its kinds, headers, and the
#: end of the file in which chunks behind audio of unknown size are searched for, at most twice.
MOST_READ_BYTES = (len(riff_chunks.KINDS) + 2) * riff_chunks.MOST_BYTES + 2 * chunks.TAIL_BYTES
HUGE = 1 << 40

VALID = [
    files.wav(files.guano("2024-07-02T06:44:04Z"), files.info("a"), files.bext("2024-07-02", "a")),
    files.rf64(files.ixml("2024-07-02", "06:44:04", 1), files.wamd("2024")),
    files.w64(files.wamd("2024-07-02 06:44:04")),
    files.aiff((b"ID3 ", files.id3((b"TDRC", b"\3" + b"2024")))),
    files.rifx(files.guano("2024-07-02T06:44:04Z")),
    files.caf({"comments": "a", "recorded date": "2024"}),
    files.flac(["DATE=2024"], [files.guano("2024")]),
    files.ogg(b"OpusTags", ["DATE=2024"]),
    files.id3((b"COMM", b"\1eng" + b"a" * 9), (b"TDRC", b"\0" + b"a")),
    files.box(b"moov", files.mvhd(9), files.box(b"udta", files.box(b"meta", bytes(50)))),
    files.id3((b"TYE", b"\1\xff\xfe2"), (b"TIM", b"\0" + b"0644"), version=2),
    files.matroska(files.element(0x1549A966, files.element(0x4461, b"\x7f" + bytes(7)))),
]


class Counting(io.BytesIO):
    """A file that counts what is read of it, and may seem larger than it is."""

    n_bytes = n_reads = 0
    extra = 0

    def read(self, size: int | None = -1) -> bytes:
        assert size is not None
        assert size >= 0
        data = super().read(size)
        self.n_bytes += len(data)
        self.n_reads += 1
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        assert whence or offset >= 0
        return super().seek(offset, whence)


def read(data: bytes, container: str) -> Counting:
    file = Counting(data)
    finder.find(
        file,
        container=container,
        rate_hz=8_000,
        file_name="",
        time_zone=None,
        not_after=files.NOW,
    )
    assert file.n_bytes <= MOST_READ_BYTES
    return file


@given(st.binary(max_size=4_000), st.sampled_from(CONTAINERS))
@example(b"", "wav")
def test_any_bytes_are_read(data: bytes, container: str) -> None:
    read(data, container)


@given(
    st.sampled_from(VALID),
    st.lists(st.tuples(st.integers(0, 4_000), st.binary(min_size=1, max_size=8)), max_size=6),
    st.integers(0, 4_000),
    st.sampled_from(CONTAINERS),
)
def test_damaged_metadata_are_read(
    data: bytes, changes: list[tuple[int, bytes]], cut: int, container: str
) -> None:
    changed = bytearray(data)
    for at, replacement in changes:
        changed[at : at + len(replacement)] = replacement
    for part in (bytes(changed), bytes(changed[:cut])):
        read(part, container)


@pytest.mark.parametrize(
    ("data", "container"),
    [
        # Many chunks, blocks, comments, frames and boxes; sizes of 0 and beyond the end.
        (files.wav(*[(b"LIST", b"adtl" + bytes(9))] * 50_000), "wav"),
        (files.wav(*[files.guano("a" * 60_000)] * 100), "wav"),
        (files.wav((b"guan", b"\n" * 2_000_000)), "wav"),
        (files.wav((b"iXML", b"<BWF_ORIGINATION_DATE>" * 100_000)), "wav"),
        (files.wav((b"iXML", b"<BWF_ORIGINATION_DATE>" + b" " * 100_000)), "wav"),
        (files.wav((b"iXML", b"<TIMESTAMP_SAMPLE_RATE>" + b"9" * 100_000)), "wav"),
        (files.wav((b"LIST", b"INFO" + bytes(2_000_000))), "wav"),
        (files.wav((b"LIST", b"INFO" + files.chunk(b"ICMT", b"Recorded at " * 9_000))), "wav"),
        (files.wav((b"wamd", bytes(2_000_000))), "wav"),
        (b"fLaC" + (b"\4\0\0\0" * 500_000), "flac"),
        (b"fLaC" + (b"\2\0\0\x0criff" + b"guan" + bytes(4)) * 50_000, "flac"),
        (files.flac([f"DATE={index}" for index in range(50_000)]), "flac"),
        (files.ogg(b"OpusTags", ["a=b"] * 100_000), "ogg"),
        (files.id3(*[(b"TDRC", b"\3a")] * 50_000), "mp3"),
        (b"ID3\4\0\0\x7f\x7f\x7f\x7f" + bytes(1_000_000), "mp3"),
        (files.box(b"free") * 100_000, "mp4"),
        (files.element(0x1254C367, b"") * 50_000, "webm"),
        (files.matroska(files.element(0x1254C367, b"\x80\x80" * 50_000)), "webm"),
        (files.matroska(*[files.element(0x1549A966, b"")] * 2_000), "webm"),
        (b"\x18\x53\x80\x67\x01" + b"\xff" * 7 + bytes(1_000_000), "webm"),
        (bytes(1_000_000), "mp4"),
        (
            files.box(b"moov", *[files.box(b"udta", *[files.box(b"meta", bytes(50))] * 99)] * 999),
            "mp4",
        ),
        (files.box(b"moov", struct.pack(">I", 1) + b"udta" + b"\xff" * 8, bytes(99)), "mp4"),
    ],
)
def test_crafted_files_are_read_in_bounds(data: bytes, container: str) -> None:
    begun_s = time.process_time()
    assert read(data, container).n_reads <= 3_000
    assert time.process_time() - begun_s < 2


def test_no_size_leads_beyond_the_file() -> None:
    for size, name in itertools.product((0, 1, HUGE, (1 << 64) - 1), (b"guan", b"data", b"ds64")):
        head = files.w64()[:40]
        read(head + name.ljust(16, b"\xf3") + struct.pack("<Q", size) + bytes(64), "w64")


def test_an_entity_is_not_expanded() -> None:
    text = b"""<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/hostname">]>
        <BWF_ORIGINATION_DATE>&b;</BWF_ORIGINATION_DATE>
        <BWF_ORIGINATION_TIME>06:44:04</BWF_ORIGINATION_TIME>"""
    assert files.found(files.wav((b"iXML", text)), "wav") is None


def test_the_error_of_a_storage_is_not_hidden(tmp_path: Path) -> None:
    class Failing(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise ConnectionError

    with pytest.raises(ConnectionError):
        finder.find(
            Failing(files.wav()),
            container="wav",
            rate_hz=8_000,
            file_name="",
            time_zone=None,
            not_after=files.NOW,
        )
