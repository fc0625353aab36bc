"""Times in the metadata of recordings, worked out by hand."""

from __future__ import annotations

import struct
from datetime import UTC, datetime

import pytest

from actors.science.audio_io import chunks
from tests.support import recorder_files as files
from tests.support.recorder_files import (
    bext,
    box,
    found,
    guano,
    info,
    ixml,
    mvhd,
    text_box,
    wamd,
    wav,
)

AT = "2024-07-02T06:44:04"
#: The same as a count of samples since midnight at 8 kHz.
SAMPLES = (6 * 3600 + 44 * 60 + 4) * 8_000
AUDIOMOTH = "by AudioMoth 24F3190361DA3578 at medium gain while battery was 4.6V"
#: 2024-07-02T04:44:04Z in seconds since 1904.
CREATED = 3_802_740_244
IXML_SAMPLES = (6 * 3600 + 44 * 60 + 4) * 192_000 + 48_000


def told(data: bytes, container: str = "wav", *, time_zone: str | None = None) -> tuple[str, ...]:
    """Return what was found, as texts: the time in UTC, what states it, and its zone."""
    time = found(data, container, time_zone=time_zone)
    if time is None:
        return ()
    return time.at.isoformat().removesuffix("+00:00"), time.origin, time.zone


@pytest.mark.parametrize(
    ("chunk", "wanted"),
    [
        (guano("2024-07-02T06:44:04+02:00"), ("2024-07-02T04:44:04", "guano", "file")),
        (guano("2024-07-02T04:44:04Z"), ("2024-07-02T04:44:04", "guano", "file")),
        (guano("2024-07-02T06:44:04.123"), (f"{AT}.123000", "guano", "assumed_utc")),
        # Song Meter Mini.
        (guano("2024-07-02 06:44:04+1:00"), ("2024-07-02T05:44:04", "guano", "file")),
        (bext("2024-07-02", "06:44:04"), (AT, "bext", "assumed_utc")),
        (bext("2024-07-02", "06-44-04"), (AT, "bext", "assumed_utc")),
        (bext("2024:07:02", "06.44.04"), (AT, "bext", "assumed_utc")),
        (bext("2024_07_02", "06_44_04"), (AT, "bext", "assumed_utc")),
        # To the sample, if the count agrees with the time of day, before and after midnight too.
        (bext("2024-07-02", "06:44:04", SAMPLES + 1), (f"{AT}.000125", "bext", "assumed_utc")),
        (bext("2024-07-02", "06:44:05", SAMPLES), (AT, "bext", "assumed_utc")),
        (
            bext("2024-07-02", "23:59:59", 4_000),
            ("2024-07-03T00:00:00.500000", "bext", "assumed_utc"),
        ),
        (
            bext("2024-07-02", "00:00:01", 86_399 * 8_000),
            ("2024-07-01T23:59:59", "bext", "assumed_utc"),
        ),
        # A time code that starts at one hour, one of another zone, one beyond the day.
        (bext("2024-07-02", "06:44:04", 3_600 * 8_000), (AT, "bext", "assumed_utc")),
        (bext("2024-07-02", "06:44:04", SAMPLES - 7_200 * 8_000), (AT, "bext", "assumed_utc")),
        (bext("2024-07-02", "06:44:04", (1 << 64) - 1), (AT, "bext", "assumed_utc")),
        (ixml("2024-07-02", "06:44:04"), (AT, "ixml", "assumed_utc")),
        (
            ixml("2024-07-02", "06:44:04", IXML_SAMPLES, "192000"),
            (f"{AT}.250000", "ixml", "assumed_utc"),
        ),
        (info(f"Recorded at 06:44:04 02/07/2024 (UTC) {AUDIOMOTH}"), (AT, "comment", "file")),
        (
            info(f"Recorded at 06:44:04 02/07/2024 (UTC+2) {AUDIOMOTH}"),
            ("2024-07-02T04:44:04", "comment", "file"),
        ),
        (
            info(f"Recorded at 06:44:04 02/07/2024 (UTC-3:30) {AUDIOMOTH}"),
            ("2024-07-02T10:14:04", "comment", "file"),
        ),
        (
            info(f"Recorded at 06:44:04 02/07/2024 (UTC-0:30) {AUDIOMOTH}"),
            ("2024-07-02T07:14:04", "comment", "file"),
        ),
        (
            info("Recorded at 06:44:04 02/07/2024 (UTC+10) during deployment 0A1B2C at low gain"),
            ("2024-07-01T20:44:04", "comment", "file"),
        ),
        # The first firmware.
        (info(f"Recorded at 06:44:04 02/07/2024 {AUDIOMOTH}"), (AT, "comment", "file")),
        (wamd("2024-07-02 06:44:04"), (AT, "wamd", "assumed_utc")),
        (wamd("2024-07-02 06:44:04.500-05:00"), ("2024-07-02T11:44:04.500000", "wamd", "file")),
        (
            (b"id3 ", files.id3((b"TDRC", b"\3" + AT.encode()))),
            (AT, "tag", "assumed_utc"),
        ),
    ],
)
def test_chunks_of_wave_files(chunk: files.Chunk, wanted: tuple[str, ...]) -> None:
    assert told(wav(chunk)) == wanted
    assert told(wav(chunk, files.AUDIO)) == wanted
    assert told(files.rf64(chunk), "rf64") == wanted
    assert told(files.w64(chunk), "w64") == wanted


@pytest.mark.parametrize(
    "chunk",
    [
        guano("yesterday"),
        guano("2024-07-02"),
        (b"guan", b"GUANO|Version: 1.0\nOAD|Timestamp: 2024-07-02T06:44:04Z"),
        bext("", ""),
        bext("0000-00-00", "00:00:00"),
        bext("2024-07-02", "25:00:00"),
        (b"bext", b"short"),
        ixml("", "06:44:04"),
        info("Recorded at 06:44:04 02/07/2024 by somebody"),
        info(f"Recorded at 06:44:04 32/07/2024 (UTC) {AUDIOMOTH}"),
        (b"LIST", b"INFO" + files.chunk(b"ICRD", b"2024-07-02")),
        wamd("2024-07-02"),
        # Clocks that were not set, and one that is ahead.
        guano("1970-01-01T00:05:54Z"),
        guano("1980-01-06T00:00:00Z"),
        guano("2031-01-01T00:00:00Z"),
    ],
)
def test_chunks_without_a_time(chunk: files.Chunk) -> None:
    assert told(wav(chunk)) == ()


def test_a_chunk_of_utf16_and_one_behind_an_unknown_size() -> None:
    name, text = ixml("2024-07-02", "06:44:04")
    assert told(wav((name, text.decode().encode("utf-16")))) == (AT, "ixml", "assumed_utc")
    before = wav(guano(f"{AT}Z"), files.AUDIO)
    at = before.index(b"data") + 4
    for size in (bytes(4), b"\xff" * 4):
        assert told(before[:at] + size + before[at + 4 :]) == (AT, "guano", "file")


def test_the_time_reference_repeated_in_ixml() -> None:
    name, text = ixml("2024-07-02", "06:44:04")
    low, high = SAMPLES + 2_000 & 0xFFFF_FFFF, SAMPLES + 2_000 >> 32
    reference = (
        f"<BWF_TIME_REFERENCE_LOW>{low}</BWF_TIME_REFERENCE_LOW>"
        f"<BWF_TIME_REFERENCE_HIGH>{high}</BWF_TIME_REFERENCE_HIGH>"
    )
    assert told(wav((name, text + reference.encode()))) == (f"{AT}.250000", "ixml", "assumed_utc")


def test_chunks_without_padding() -> None:
    name, text = guano(f"{AT}Z")
    text += b"." * (1 - len(text) % 2)
    odd = files.chunk(b"note", b"abc")[:-1] + files.chunk(name, text)[:-1]
    for data in (wav(files.AUDIO), wav(files.AUDIO, files.bext("", ""))):
        for at in (data.index(b"data"), len(data)):
            assert told(data[:at] + odd + data[at:]) == (AT, "guano", "file")


@pytest.mark.parametrize("size", [0, 0x7FFF_FFFF, 0xFFFF_FFFF])
def test_chunks_behind_audio_of_unknown_size(size: int) -> None:
    chunk, wanted = guano(f"{AT}Z"), (AT, "guano", "file")
    for data, container in (
        (wav(files.AUDIO, files.bext("", ""), chunk), "wav"),
        (files.rifx(chunk), "wav"),
        (files.rf64(chunk), "rf64"),
    ):
        order = ">" if data[:4] == b"RIFX" else "<"
        at = data.index(b"data") + 4
        assert (
            told(data[:at] + struct.pack(f"{order}I", size) + data[at + 4 :], container) == wanted
        )
    # The long size is unknown too.
    data = files.rf64(chunk).replace(struct.pack("<Q", len(files.AUDIO[1])), bytes(8))
    assert told(data, "rf64") == wanted
    tag = files.id3((b"TDRC", b"\0" + AT.encode()))
    data = files.aiff((b"ID3 ", tag))
    at = data.index(b"SSND") + 4
    unknown = data[:at] + struct.pack(">I", size) + data[at + 4 :]
    assert told(unknown, "aiff") == (AT, "tag", "assumed_utc")


@pytest.mark.parametrize("size", [0, 24, (1 << 64) - 1, (1 << 63) - 1])
def test_chunks_behind_the_audio_of_wave64_of_unknown_size(size: int) -> None:
    data = files.w64(guano(f"{AT}Z"))
    data = data.replace(b"guan".ljust(16, b"\xf3"), b"guan" + chunks.W64_GUID)
    at = data.index(b"data") + 16
    assert told(data[:at] + struct.pack("<Q", size) + data[at + 8 :], "w64") == (
        AT,
        "guano",
        "file",
    )


def test_big_endian_wave_files() -> None:
    assert told(files.rifx(guano(f"{AT}Z"))) == (AT, "guano", "file")
    texts = files.chunk(b"ICMT", f"Recorded at 06:44:04 02/07/2024 (UTC) {AUDIOMOTH}".encode(),
                        order=">")  # fmt: skip
    assert told(files.rifx((b"LIST", b"INFO" + texts))) == (AT, "comment", "file")


@pytest.mark.parametrize("size", [None, -1, 0])
def test_caf(size: int | None) -> None:
    dated = files.caf({"title": "a", "Recorded Date": f"{AT}+02:00"}, size=size)
    assert told(dated, "caf") == ("2024-07-02T04:44:04", "tag", "file")
    comment = f"Recorded at 06:44:04 02/07/2024 (UTC) {AUDIOMOTH}"
    assert told(files.caf({"comments": comment}, size=size), "caf") == (AT, "comment", "file")
    assert told(files.caf({"recorded date": "2024-07-02"}, size=size), "caf") == ()
    assert told(files.caf({}, size=size), "caf") == ()


def test_aiff() -> None:
    tag = files.id3((b"TDRC", b"\0" + AT.encode()))
    assert told(files.aiff((b"ID3 ", tag)), "aiff") == (AT, "tag", "assumed_utc")
    comment = f"Recorded at 06:44:04 02/07/2024 (UTC) {AUDIOMOTH}".encode()
    assert told(files.aiff((b"ANNO", comment)), "aiff") == (AT, "comment", "file")


@pytest.mark.parametrize(
    ("comments", "wanted"),
    [
        ([f"DATE={AT}"], (AT, "tag", "assumed_utc")),
        (["TITLE=a", f"date={AT}+02:00"], ("2024-07-02T04:44:04", "tag", "file")),
        ([f"RecordingStart={AT}+1000"], ("2024-07-01T20:44:04", "tag", "file")),
        (
            [f"COMMENT=Recorded at 06:44:04 02/07/2024 (UTC+2) {AUDIOMOTH}"],
            ("2024-07-02T04:44:04", "comment", "file"),
        ),
        (["DATE=2024-07-02"], ()),
        (["DATE"], ()),
    ],
)
def test_comments_of_flac_and_ogg(comments: list[str], wanted: tuple[str, ...]) -> None:
    assert told(files.flac(comments), "flac") == wanted
    assert told(files.id3() + files.flac(comments), "flac") == wanted
    for mark in (b"\x03vorbis", b"OpusTags"):
        assert told(files.ogg(mark, comments), "ogg") == wanted


def test_chunks_that_flac_kept() -> None:
    data = files.flac(foreign=[info("nothing"), guano(f"{AT}+02:00")])
    assert told(data, "flac") == ("2024-07-02T04:44:04", "guano", "file")
    comment = info(f"Recorded at 06:44:04 02/07/2024 (UTC) {AUDIOMOTH}")
    assert told(files.flac(foreign=[comment]), "flac") == (AT, "comment", "file")


@pytest.mark.parametrize("version", [3, 4])
def test_tags_of_mp3(version: int) -> None:
    comment = b"\1eng\xff\xfe\0\0" + f"\ufeff{AUDIOMOTH}".encode("utf-16-le")
    frames = [(b"TIT2", b"\3a title"), (b"COMM", comment), (b"TDRC", b"\3" + AT.encode())]
    data = files.id3(*frames, version=version) + b"\xff\xfb\x90\x00"
    assert told(data, "mp3") == (AT, "tag", "assumed_utc")
    text = f"Recorded at 06:44:04 02/07/2024 (UTC+2) {AUDIOMOTH}"
    data = files.id3((b"COMM", b"\0eng\0" + text.encode()), version=version)
    assert told(data, "mp3") == ("2024-07-02T04:44:04", "comment", "file")


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_tags_of_mp3_before_they_had_one_for_the_time(version: int, encoding: str) -> None:
    texts = {b"TYER": "2024", b"TDAT": "0207", b"TIME": "0644"}
    first = b"\1" if encoding == "utf-16" else b"\0"
    frames = [
        (name if version == 3 else name[:3], first + text.encode(encoding))
        for name, text in texts.items()
    ]
    data = files.id3(*frames, version=version)
    assert told(data, "mp3") == ("2024-07-02T06:44:00", "tag", "assumed_utc")
    # Without a time of day.
    assert told(files.id3(*frames[:2], version=version), "mp3") == ()
    # The mark of UTF-16 looks like audio, and a zero keeps it apart.
    apart = bytearray(data[:10] + data[10:].replace(b"\xff", b"\xff\0"))
    apart[5], apart[6:10] = 0x80, files.seven_bits(len(apart) - 10)
    assert told(bytes(apart), "mp3") == ("2024-07-02T06:44:00", "tag", "assumed_utc")
    comment = f"Recorded at 06:44:04 02/07/2024 (UTC+2) {AUDIOMOTH}"
    name = b"COMM" if version == 3 else b"COM"
    data = files.id3((name, b"\0eng\0" + comment.encode()), version=version)
    assert told(data, "mp3") == ("2024-07-02T04:44:04", "comment", "file")


@pytest.mark.parametrize(
    ("movie", "wanted"),
    [
        ([mvhd(CREATED)], ("2024-07-02T04:44:04", "creation_time", "file")),
        ([mvhd(CREATED, version=1)], ("2024-07-02T04:44:04", "creation_time", "file")),
        # 1904, 1970, and seconds since 1970 in place of 1904.
        ([mvhd(0)], ()),
        ([mvhd(2_082_844_800)], ()),
        ([mvhd(1_719_895_444)], ()),
        ([mvhd((1 << 64) - 1, version=1)], ()),
        (
            [mvhd(CREATED), box(b"udta", box(b"meta", bytes(4), box(b"hdlr", bytes(25)),
             box(b"ilst", text_box(b"\xa9day", f"{AT}Z"))))],
            (AT, "tag", "file"),
        ),
        (
            [mvhd(CREATED), box(b"meta", box(b"hdlr", bytes(24)),
             box(b"keys", bytes(4), b"\0\0\0\2", box(b"mdta", b"com.apple.quicktime.make"),
                 box(b"mdta", b"com.apple.quicktime.creationdate")),
             box(b"ilst", text_box(b"\0\0\0\1", "Apple"), text_box(b"\0\0\0\2", f"{AT}+0200")))],
            ("2024-07-02T04:44:04", "tag", "file"),
        ),
    ],
)  # fmt: skip
def test_mp4(movie: list[bytes], wanted: tuple[str, ...]) -> None:
    start, audio, moov = box(b"ftyp", b"M4A "), box(b"mdat", bytes(999)), box(b"moov", *movie)
    long_audio = b"\0\0\0\1mdat" + (16 + 999).to_bytes(8, "big") + bytes(999)
    for data in (start + moov + audio, start + audio + moov, start + long_audio + moov):
        assert told(data, "mp4") == wanted


@pytest.mark.parametrize(
    ("tags_are", "cluster_bytes"), [("before", 9), ("behind", 9), ("behind", None)]
)
def test_matroska(tags_are: str, cluster_bytes: int | None) -> None:
    """The audio of a stream has no size, and tags behind it are found by the table in front."""
    created = (datetime(2024, 7, 2, 4, 44, 4) - datetime(2001, 1, 1)).total_seconds()
    info = files.element(0x1549A966, files.element(0x4461, int(created * 1e9).to_bytes(8, "big")))
    tag = files.element(0x45A3, b"DATE_RECORDED") + files.element(0x4487, AT.encode())
    tags = files.element(0x1254C367, files.element(0x7373, files.element(0x67C8, tag)))
    cluster = files.element(0x1F43B675, bytes(cluster_bytes or 99), is_known=bool(cluster_bytes))
    assert told(files.matroska(info, cluster), "matroska") == (
        "2024-07-02T04:44:04",
        "creation_time",
        "file",
    )
    parts = [info, tags, cluster] if tags_are == "before" else [info, cluster, tags]
    assert told(files.matroska(*parts), "webm") == (AT, "tag", "assumed_utc")


def test_the_order_of_trust() -> None:
    chunks = [
        guano("2024-07-02T01:00:00"),
        bext("2024-07-02", "02:00:00"),
        ixml("2024-07-02", "03:00:00"),
        info(f"Recorded at 04:00:00 02/07/2024 (UTC) {AUDIOMOTH}"),
        wamd("2024-07-02 05:00:00"),
        (b"id3 ", files.id3((b"TDRC", b"\0" + b"2024-07-02T06:00:00"))),
    ]
    for first, origin in enumerate(
        ("guano", "bext", "ixml", "comment", "wamd", "tag", "file_name")
    ):
        time = found(wav(*chunks[first:]), "wav", file_name="20240702_070000.wav")
        assert time is not None
        assert (time.at, time.origin) == (datetime(2024, 7, 2, first + 1, tzinfo=UTC), origin)
    # One that is implausible is passed over.
    time = found(wav(guano("1970-01-01T00:00:00Z"), *chunks[1:]), "wav")
    assert time is not None
    assert time.origin == "bext"


def test_zones() -> None:
    berlin = "Europe/Berlin"
    here = ("2024-07-02T04:44:04", "bext")
    assert told(wav(bext("2024-07-02", "06:44:04")), time_zone=berlin) == (*here, "time_zone")
    # The offset in the file wins over the caller's zone.
    with_offset = guano(f"{AT}+05:00")
    wanted = ("2024-07-02T01:44:04", "guano", "file")
    assert told(wav(with_offset), time_zone=berlin) == wanted
    # Another statement of the same clock lends its offset; one of another clock does not.
    comment = info(f"Recorded at 06:44:05 02/07/2024 (UTC+2) {AUDIOMOTH}")
    assert told(wav(bext("2024-07-02", "06:44:04"), comment)) == (*here, "file")
    assert told(wav(bext("2024-07-02", "07:44:04"), comment)) == (
        "2024-07-02T07:44:04",
        "bext",
        "assumed_utc",
    )
