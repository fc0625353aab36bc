"""Files with metadata, byte by byte."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterable
from datetime import UTC, datetime

from actors.science.audio_io.recording_time import finder
from actors.science.audio_io.recording_time.finder import FoundTime

RATE_HZ = 8_000
NOW = datetime(2026, 11, 28, tzinfo=UTC)

Chunk = tuple[bytes, bytes]
#: A second of silence.
AUDIO: Chunk = (b"data", bytes(2 * RATE_HZ))
FORMAT: Chunk = (b"fmt ", struct.pack("<HHIIHH", 1, 1, RATE_HZ, 2 * RATE_HZ, 2, 16))


def chunk(name: bytes, body: bytes, *, order: str = "<") -> bytes:
    return name + struct.pack(f"{order}I", len(body)) + body + b"\0" * (len(body) % 2)


def wav(*chunks: Chunk) -> bytes:
    """Return a WAVE file with these chunks, and audio in front of them unless they have it."""
    parts = [*chunks] if any(name == b"data" for name, _ in chunks) else [AUDIO, *chunks]
    body = b"WAVE" + b"".join(chunk(*each) for each in [FORMAT, *parts])
    return chunk(b"RIFF", body)


def rf64(*chunks: Chunk) -> bytes:
    """Return an RF64 file, whose audio has its size in another chunk, with chunks behind it."""
    sizes = struct.pack("<QQQI", 0, len(AUDIO[1]), RATE_HZ, 0)
    audio = b"data\xff\xff\xff\xff" + AUDIO[1]
    head = b"RF64\xff\xff\xff\xffWAVE" + chunk(b"ds64", sizes) + chunk(*FORMAT)
    return head + audio + b"".join(chunk(*each) for each in chunks)


def w64(*chunks: Chunk) -> bytes:
    """Return a Wave64 file; only the first four bytes of its names have a meaning here."""

    def long_chunk(name: bytes, body: bytes) -> bytes:
        padding = bytes(-len(body) % 8)
        return name.ljust(16, b"\xf3") + struct.pack("<Q", len(body) + 24) + body + padding

    head = bytes.fromhex("726966662e91cf11a5d628db04c10000") + bytes(8)
    head += b"wave".ljust(16, b"\xf3")
    return head + b"".join(long_chunk(*each) for each in [FORMAT, AUDIO, *chunks])


def aiff(*chunks: Chunk) -> bytes:
    body = b"AIFF" + b"".join(chunk(*each, order=">") for each in [(b"SSND", bytes(99)), *chunks])
    return chunk(b"FORM", body, order=">")


def rifx(*chunks: Chunk) -> bytes:
    """Return a WAVE file in big-endian order, with audio in front of the chunks."""
    body = b"WAVE" + b"".join(chunk(*each, order=">") for each in [FORMAT, AUDIO, *chunks])
    return chunk(b"RIFX", body, order=">")


def caf(tags: dict[str, str], *, size: int | None = None) -> bytes:
    """Return a CAF file with tags behind its audio, whose header may have another size."""

    def long_chunk(name: bytes, body: bytes, size: int | None = None) -> bytes:
        return name + struct.pack(">q", len(body) if size is None else size) + body

    texts = b"".join(text.encode() + b"\0" for each in tags.items() for text in each)
    info = long_chunk(b"info", struct.pack(">I", len(tags)) + texts)
    return b"caff\0\1\0\0" + long_chunk(b"data", bytes(4) + AUDIO[1], size) + info


def guano(timestamp: str) -> Chunk:
    text = f"GUANO|Version: 1.0\nMake: Open Acoustic Devices\nTimestamp: {timestamp}\nNote: a:b\n "
    return b"guan", text.encode()


def info(comment: str) -> Chunk:
    texts = chunk(b"IART", b"AudioMoth\0") + chunk(b"ICMT", comment.encode() + b"\0\0\0")
    return b"LIST", b"INFO" + texts


def bext(date: str, time: str, samples: int = 0) -> Chunk:
    head = b"a description".ljust(256, b"\0") + b"a recorder".ljust(64, b"\0")
    times = date.encode().ljust(10, b"\0") + time.encode().ljust(8, b"\0")
    return b"bext", head + times + struct.pack("<QH", samples, 1) + bytes(254)


def ixml(date: str, time: str, samples: int = 0, rate_hz: str = "") -> Chunk:
    text = f"""<?xml version="1.0" encoding="UTF-8"?><BWFXML><IXML_VERSION>2.10</IXML_VERSION>
        <SPEED><TIMESTAMP_SAMPLE_RATE>{rate_hz}</TIMESTAMP_SAMPLE_RATE>
        <TIMESTAMP_SAMPLES_SINCE_MIDNIGHT_HI>{samples >> 32}</TIMESTAMP_SAMPLES_SINCE_MIDNIGHT_HI>
        <TIMESTAMP_SAMPLES_SINCE_MIDNIGHT_LO>
        {samples & 0xFFFFFFFF}</TIMESTAMP_SAMPLES_SINCE_MIDNIGHT_LO></SPEED>
        <BEXT><BWF_ORIGINATION_DATE>{date}</BWF_ORIGINATION_DATE>
        <BWF_ORIGINATION_TIME>{time}</BWF_ORIGINATION_TIME></BEXT></BWFXML>"""
    return b"iXML", text.encode()


def wamd(start: str) -> Chunk:
    entries = [(0, b"\1\0"), (1, b"SM4"), (5, start.encode()), (0xFFFF, bytes(3))]
    return b"wamd", b"".join(struct.pack("<HI", kind, len(text)) + text for kind, text in entries)


def vorbis(comments: Iterable[str]) -> bytes:
    texts = [each.encode() for each in comments]
    listed = b"".join(struct.pack("<I", len(text)) + text for text in texts)
    return struct.pack("<I", 3) + b"abc" + struct.pack("<I", len(texts)) + listed


def flac(comments: Iterable[str] = (), foreign: Iterable[Chunk] = ()) -> bytes:
    blocks = [(0, bytes(34)), *((2, b"riff" + chunk(*each)) for each in foreign)]
    blocks.append((4, vorbis(comments)))
    heads = [kind for kind, _ in blocks]
    heads[-1] |= 0x80
    return b"fLaC" + b"".join(
        bytes([head]) + len(body).to_bytes(3, "big") + body
        for head, (_, body) in zip(heads, blocks, strict=True)
    )


def ogg(mark: bytes, comments: Iterable[str]) -> bytes:
    return b"OggS" + bytes(60) + b"OggS" + bytes(24) + mark + vorbis(comments) + bytes(500)


def seven_bits(number: int) -> bytes:
    """Return a size with seven bits per byte."""
    return bytes(number >> 7 * place & 0x7F for place in (3, 2, 1, 0))


def id3(*frames: tuple[bytes, bytes], version: int = 4) -> bytes:
    def head(name: bytes, n_bytes: int) -> bytes:
        if version == 2:
            return name + n_bytes.to_bytes(3, "big")
        return (
            name + (seven_bits(n_bytes) if version == 4 else struct.pack(">I", n_bytes)) + b"\0\0"
        )

    body = b"".join(head(name, len(text)) + text for name, text in frames)
    return b"ID3" + bytes([version, 0, 0]) + seven_bits(len(body)) + body


def element(kind: int, contents: bytes, *, is_known: bool = True) -> bytes:
    """Return an element of a Matroska file, whose size may be unknown."""
    name = kind.to_bytes((kind.bit_length() + 7) // 8, "big")
    size = (1 << 56) - 1 if not is_known else len(contents)
    return name + (1 << 56 | size).to_bytes(8, "big") + contents


def matroska(*elements: bytes) -> bytes:
    """Return a Matroska file with a table of the positions of its elements."""

    def table(positions: Iterable[int]) -> bytes:
        seeks = [
            element(0x53AB, each[:4]) + element(0x53AC, position.to_bytes(8, "big"))
            for each, position in zip(elements, positions, strict=True)
        ]
        return element(0x114D9B74, b"".join(element(0x4DBB, seek) for seek in seeks))

    begins = [len(table([0] * len(elements)))]
    for each in elements[:-1]:
        begins.append(begins[-1] + len(each))
    segment = element(0x18538067, table(begins) + b"".join(elements))
    return element(0x1A45DFA3, element(0x4282, b"matroska")) + segment


def box(kind: bytes, *contents: bytes) -> bytes:
    body = b"".join(contents)
    return struct.pack(">I", len(body) + 8) + kind + body


def mvhd(created: int, *, version: int = 0) -> bytes:
    times = struct.pack(">QQ" if version else ">II", created, created)
    return box(b"mvhd", bytes([version, 0, 0, 0]), times, bytes(80))


def text_box(kind: bytes, text: str) -> bytes:
    return box(kind, box(b"data", struct.pack(">II", 1, 0), text.encode()))


def found(
    data: bytes,
    container: str,
    *,
    file_name: str = "recording",
    time_zone: str | None = None,
    rate_hz: int = RATE_HZ,
) -> FoundTime | None:
    return finder.find(
        io.BytesIO(data),
        container=container,
        rate_hz=rate_hz,
        file_name=file_name,
        time_zone=time_zone,
        not_after=NOW,
    )
