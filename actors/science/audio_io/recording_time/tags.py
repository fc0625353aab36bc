"""The tags of FLAC, Ogg, MP3, MP4, CAF and ASF files, as far as they may contain a time.

Nothing here trusts a size: at most `MOST_BYTES` of a tag are read, and a limited number of parts.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import BinaryIO

from actors.facts import formats
from actors.science.audio_io.recording_time import riff_chunks
from actors.science.audio_io.recording_time.riff_chunks import MOST_BYTES

#: A tag: its name in lower case, and its text.
Tag = tuple[str, str]

#: Most blocks of a FLAC file, boxes of a level of an MP4 file, or tags.
_MOST_PARTS = 200
#: How much of the text of a tag in an MP4 file is read.
_MOST_TEXT_BYTES = 1_024

#: Where the comments of an Ogg stream begin: Vorbis, Opus.
_OGG_COMMENTS = (b"\x03vorbis", b"OpusTags")
_FLAC_APPLICATION, _FLAC_COMMENTS = 2, 4

#: The versions of ID3: bytes of the name of a frame, as many as of its size, and of its header.
_ID3_VERSIONS = {2: (3, 6), 3: (4, 10), 4: (4, 10)}
#: The flag of a tag whose bytes 0xFF have a zero behind them, so that they do not look like audio.
_ID3_UNSYNCHRONISED = 0x80
#: Version 2.2 has shorter names.
_ID3_SHORT_NAMES = {"tye": "tyer", "tda": "tdat", "tim": "time"}
#: Encodings of the texts of ID3, by their first byte.
_ID3_ENCODINGS = ("latin-1", "utf-16", "utf-16-be", "utf-8")
#: The first bytes of a frame of comments: its encoding and language.
_ID3_COMMENT_BYTES = 4

_EPOCH_1904 = datetime(1904, 1, 1, tzinfo=UTC)

#: The file properties of an ASF file, the position of the creation date in them, in units of 100 ns
#: since 1601, and the bytes in which they are searched for.
_ASF_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_ASF_DATE = slice(48, 56)
_ASF_HEAD_BYTES = 16_384
_EPOCH_1601 = datetime(1601, 1, 1, tzinfo=UTC)


def id3_bytes(head: bytes) -> int:
    """Return the length of the ID3 tag that a file begins with; 0 without one."""
    if len(head) < 10 or head[:3] != formats.ID3:
        return 0
    return 10 + _seven_bits(head[6:10])


def _seven_bits(size: bytes) -> int:
    """Return a size with seven bits per byte."""
    number = 0
    for byte in size:
        number = number << 7 | byte & 0x7F
    return number


def id3(body: bytes) -> list[Tag]:
    """Return the texts and comments of an ID3 tag of version 2.2, 2.3 or 2.4.

    Those of 2.2 have the names of 2.3. The year, the day and the minute, which are separate texts
    up to 2.3, are in ``tdrc`` as well, as in 2.4.
    """
    if len(body) < 10 or body[:3] != formats.ID3 or body[3] not in _ID3_VERSIONS:
        return []
    version, flags = body[3], body[5]
    content = body[10:]
    if flags & _ID3_UNSYNCHRONISED and version < 4:
        content = content.replace(b"\xff\0", b"\xff")
    found = list(_id3_texts(content, version, has_extended_header=bool(flags & 0x40)))
    texts = dict(reversed(found))
    year, day, minute = (texts.get(name, "") for name in ("tyer", "tdat", "time"))
    if len(day) == len(minute) == 4:
        found.append(("tdrc", f"{year}-{day[2:]}-{day[:2]}T{minute[:2]}:{minute[2:]}"))
    return found


def _id3_texts(content: bytes, version: int, *, has_extended_header: bool) -> Iterator[Tag]:
    """Yield the texts and comments in the frames of an ID3 tag."""
    n_name, n_head = _ID3_VERSIONS[version]
    position = 0
    if has_extended_header and version > 2:
        # Only in version 2.4 its size includes itself.
        size = content[:4]
        position = _seven_bits(size) if version == 4 else int.from_bytes(size, "big") + 4
    for _ in range(_MOST_PARTS):
        name = content[position : position + n_name]
        raw_size = content[position + n_name : position + 2 * n_name]
        n_bytes = _seven_bits(raw_size) if version == 4 else int.from_bytes(raw_size, "big")
        frame = content[position + n_head : position + n_head + n_bytes]
        if not frame or not name.isalnum():
            return
        if frame[0] < len(_ID3_ENCODINGS) and name[:1] in (b"T", b"C"):
            text = frame[_ID3_COMMENT_BYTES if name in (b"COMM", b"COM") else 1 :]
            decoded = text.decode(_ID3_ENCODINGS[frame[0]], errors="replace").rstrip("\0")
            shown = name.decode(errors="replace").lower()
            yield _ID3_SHORT_NAMES.get(shown, shown), decoded
        position += n_head + n_bytes


def vorbis_comments(body: bytes) -> list[Tag]:
    """Return the comments of a block of Vorbis comments."""
    found: list[Tag] = []
    position = 4 + int.from_bytes(body[:4], "little") + 4
    while position + 4 <= len(body) and len(found) < _MOST_PARTS:
        size = int.from_bytes(body[position : position + 4], "little")
        text = body[position + 4 : position + 4 + size].decode(errors="replace")
        key, is_comment, value = text.partition("=")
        if is_comment:
            found.append((key.lower(), value))
        position += 4 + size
    return found


def caf(body: bytes) -> list[Tag]:
    """Return the tags in the ``info`` chunk of a CAF file: names and texts with a null behind."""
    texts = body[4:].split(b"\0", 2 * _MOST_PARTS)
    decoded = [text.decode(errors="replace") for text in texts]
    return [(name.lower(), text) for name, text in zip(decoded[::2], decoded[1::2], strict=False)]


def flac(file: BinaryIO, start: int) -> tuple[list[Tag], dict[bytes, bytes]]:
    """Return the comments of a FLAC file, and the chunks of the WAVE file that it was made from.

    ``flac --keep-foreign-metadata`` stores each chunk with its header in a block for applications.
    """
    tags: list[Tag] = []
    chunks: dict[bytes, bytes] = {}
    position = start + len(b"fLaC")
    for _ in range(_MOST_PARTS):
        file.seek(position)
        head = file.read(4)
        if len(head) < 4:
            break
        kind, size = head[0] & 0x7F, int.from_bytes(head[1:], "big")
        end = position + 4 + size
        if kind == _FLAC_COMMENTS and not tags:
            tags = vorbis_comments(file.read(min(size, MOST_BYTES)))
        elif kind == _FLAC_APPLICATION and file.read(4) == b"riff":
            name = file.read(8)[:4].lower()
            name = riff_chunks.kind_of_list(file) if name == b"list" else name
            if name in riff_chunks.KINDS and name not in chunks:
                chunks[name] = file.read(max(0, min(end - file.tell(), MOST_BYTES)))
        if head[0] & 0x80:
            break
        position = end
    return tags, chunks


def ogg(file: BinaryIO) -> list[Tag]:
    """Return the comments of an Ogg file with Vorbis or Opus.

    They are in the second packet, near the beginning of the file.
    """
    file.seek(0)
    head = file.read(MOST_BYTES)
    for mark in _OGG_COMMENTS:
        at = head.find(mark)
        if at >= 0:
            return vorbis_comments(head[at + len(mark) :])
    return []


def mp4(file: BinaryIO) -> tuple[list[Tag], datetime | None]:
    """Return the tags of an MP4 or MOV file, and the time of its creation."""
    whole = range(file.seek(0, 2))
    movie = _boxes(file, _boxes(file, whole).get(b"moov", range(0)))
    user = _boxes(file, movie.get(b"udta", range(0)))
    found = [
        tag
        for boxes in (movie, user)
        if b"meta" in boxes
        for tag in _mp4_tags(file, boxes[b"meta"])
    ]
    return found, _created(file, movie[b"mvhd"]) if b"mvhd" in movie else None


def asf(file: BinaryIO) -> datetime | None:
    """Return the creation date of an ASF file, such as of WMA."""
    file.seek(0)
    head = file.read(_ASF_HEAD_BYTES)
    at = head.find(_ASF_PROPERTIES)
    date = head[at:][_ASF_DATE] if at >= 0 else b""
    try:
        return _EPOCH_1601 + timedelta(microseconds=int.from_bytes(date, "little") // 10)
    except OverflowError:
        return None


def _boxes(file: BinaryIO, part: range) -> dict[bytes, range]:
    """Return where the contents of the boxes in a part of a file are: the first of each kind."""
    found: dict[bytes, range] = {}
    for kind, contents in _all_boxes(file, part):
        found.setdefault(kind, contents)
    return found


def _all_boxes(file: BinaryIO, part: range) -> Iterator[tuple[bytes, range]]:
    start = part.start
    for _ in range(_MOST_PARTS):
        if start + 8 > part.stop:
            return
        file.seek(start)
        head = file.read(16)
        if len(head) < 8:
            return
        size, kind, header_bytes = int.from_bytes(head[:4], "big"), head[4:8], 8
        if size == 1:
            size, header_bytes = int.from_bytes(head[8:16], "big"), 16
        elif size == 0:
            size = part.stop - start
        if size < header_bytes:
            return
        yield kind, range(start + header_bytes, min(start + size, part.stop))
        start += size


def _created(file: BinaryIO, header: range) -> datetime | None:
    file.seek(header.start)
    body = file.read(12)
    seconds = int.from_bytes(body[4:12] if body[:1] == b"\1" else body[4:8], "big")
    try:
        return _EPOCH_1904 + timedelta(seconds=seconds) if seconds else None
    except OverflowError:
        return None


def _mp4_tags(file: BinaryIO, meta: range) -> list[Tag]:
    """Return the tags of a ``meta`` box, whose contents begin with a version, except in MOV files.

    The name of a tag is that of its box, or the box has the number of a name in ``keys``.
    """
    file.seek(meta.start + 4)
    is_mov = file.read(4) == b"hdlr"
    boxes = _boxes(file, meta if is_mov else range(meta.start + 4, max(meta.start + 4, meta.stop)))
    keys = boxes.get(b"keys", range(0))
    names = [_text(file, each) for _, each in _all_boxes(file, range(keys.start + 8, keys.stop))]
    found: list[Tag] = []
    for item, contents in _all_boxes(file, boxes.get(b"ilst", range(0))):
        index = int.from_bytes(item, "big") - 1
        name = names[index] if 0 <= index < len(names) else item.decode("latin-1")
        # The header of a box, a type and a language precede the text.
        found.append((name.lower(), _text(file, range(contents.start + 16, contents.stop))))
    return found


def _text(file: BinaryIO, part: range) -> str:
    file.seek(part.start)
    return file.read(min(len(part), _MOST_TEXT_BYTES)).decode(errors="replace")
