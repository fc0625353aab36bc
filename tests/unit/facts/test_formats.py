"""Recognition by the first bytes: of streams behind other bytes, and of no other file."""

from __future__ import annotations

import io
import tarfile
import zipfile

import numpy as np
import pytest

from actors.facts import formats, frames
from tests.support.shapes import by_ffmpeg

MP3 = by_ffmpeg("mp3", "libmp3lame", 44_100, options={"id3v2_version": "0"})
AAC = by_ffmpeg("adts", "aac", 44_100)
LATM = by_ffmpeg("latm", "aac", 44_100)
PS = by_ffmpeg("mpeg", "mp2", 48_000, video_s=3.0)


def found(content: bytes) -> str | None:
    return formats.container_of(content[: formats.HEAD_BYTES])


def test_random_bytes_are_no_recording() -> None:
    rng = np.random.default_rng(0)
    for _ in range(150):
        assert found(rng.bytes(int(rng.integers(1, formats.HEAD_BYTES + 100)))) is None


@pytest.mark.parametrize(
    "alphabet",
    [
        b"abc \n",
        b"ab\xff\xfb\xfe\n",
        b"\xff\xfb\x90\x00",
        b"\x0b\x77\x00\xff",
        b"V\xe0\xff\x00",
        b"G0123 \n",
        bytes(range(32, 127)) + b"\xff",
    ],
)
def test_texts_of_awkward_bytes_are_no_recording(alphabet: bytes) -> None:
    rng = np.random.default_rng(1)
    for n_bytes in (3, 64, 700, 5_000, formats.HEAD_BYTES):
        for _ in range(10):
            assert found(bytes(rng.choice(list(alphabet), n_bytes))) is None


def archived(*, is_zip: bool) -> bytes:
    file = io.BytesIO()
    if is_zip:
        with zipfile.ZipFile(file, "w") as pack:
            pack.writestr("a.mp3", MP3)
    else:
        with tarfile.open(fileobj=file, mode="w") as pack:
            member = tarfile.TarInfo("a.mp3")
            member.size = len(MP3)
            pack.addfile(member, io.BytesIO(MP3))
    return file.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        "a text".encode("utf-16"),
        ("höhe\n" * 5_000).encode("utf-16"),
        ("ÿû" * 20_000).encode("latin-1"),
        b"The free text: freemoov, a moov of ftyp" * 100,
        b"MAC addresses: 00:11" * 100,
        b"ID3 is a kind of tag" * 100,
        b"APETAGEX",
        b"MP+ and MPCX" * 100,
        b"<html><body>\xff\xfb</body></html>" * 100,
        b'{"source_url": "https://example.org/a.mp3"}',
        b"\x89PNG\r\n\x1a\n" + MP3,
        b"\xff\xd8\xff\xe0" + MP3,
        b"%PDF-1.7" + MP3,
        b"RIFF\x10\0\0\0WEBPVP8 " + bytes(500),
        b"\0\0\0\x1cftypheic\0\0\0\0mif1heic" + bytes(500),
        b"\0\0\0\x1cftypavif\0\0\0\0mif1avif" + bytes(500),
        b"\x1a\x45\xdf\xa3" + bytes(500),
        b"GIF89a" + bytes(500),
        b"G" * 5_000,
        b"\xff" * 5_000,
        bytes(formats.HEAD_BYTES),
        archived(is_zip=True),
        archived(is_zip=False),
    ],
)
def test_texts_pictures_and_archives_are_no_recording(content: bytes) -> None:
    assert found(content) is None


@pytest.mark.parametrize(
    "pixel",
    [
        bytes.fromhex(each)
        for each in ("ffff4949", "ffe4e4e4", "ffe5e5e5", "ffff2408", "ffffa906", "fffe4949")
    ],
)
def test_rows_of_a_picture_are_no_frames(pixel: bytes) -> None:
    """These pixels look like headers of layer I, or of a layer II that MPEG-2.5 does not have."""
    for header in (b"BM" + bytes(52), b"", bytes(1)):
        assert found(header + pixel * (formats.HEAD_BYTES // 4)) is None


@pytest.mark.parametrize("n_bytes", [0, 1, 417, 5_000, 60_000])
@pytest.mark.parametrize("is_random", [True, False])
def test_a_stream_is_found_behind_other_bytes(n_bytes: int, is_random: bool) -> None:
    first = np.random.default_rng(2).bytes(n_bytes) if is_random else bytes(n_bytes)
    assert found(first + MP3) == "mp3"
    assert found(first + AAC) == "aac"


@pytest.mark.parametrize("n_bytes", [0, 1, 40, 5_000])
@pytest.mark.parametrize("cut_off", [0, 100, 3_000])
def test_a_program_stream_is_found_behind_other_bytes(n_bytes: int, cut_off: int) -> None:
    """The MPEG audio in it is no stream, whose frames would be torn by the packets."""
    first = np.random.default_rng(2).bytes(n_bytes)
    assert found(first + PS[cut_off:]) == "ps"
    at = (first + PS[cut_off:]).index(b"\0\0\1\xba")
    assert frames.find(first + PS[cut_off:], is_whole=False) == ("ps", at)


@pytest.mark.parametrize("n_bytes", range(1, 6))
def test_no_frame_is_lost_behind_bytes_that_may_begin_one(n_bytes: int) -> None:
    for fill, stream, name in ((b"\xff", MP3, "mp3"), (b"\xff", AAC, "aac"), (b"V", LATM, "latm")):
        assert frames.find(fill * n_bytes + stream, is_whole=False) == (name, n_bytes)


def test_the_search_for_a_stream_is_bounded() -> None:
    assert found(bytes(formats.HEAD_BYTES) + MP3) is None


def test_two_frames_are_a_stream_only_if_they_are_the_whole_file() -> None:
    # A header of MPEG-1 layer III, 128 kbit/s, 44.1 kHz.
    frame = b"\xff\xfb\x90\xc4" + bytes(413)
    assert found(frame * 2) == "mp3"
    assert found(frame) is None
    assert found(frame * 2 + b"a text") is None
    assert found(b"a" + frame * 2) is None
