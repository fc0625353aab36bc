"""Chunks of WAVE, Wave64, AIFF and CAF files: their layouts, their positions, and unknown sizes."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

#: Maximum number of chunks before the audio; a crafted file could have millions.
_MOST_CHUNKS = 1_000

#: Sizes from here up to 2 GiB, and just below 4 GiB, are written by recorders that cannot go back
#: to the header: no file is likely to have exactly these sizes.
_UNKNOWN_SIZES = (range(0x7FFF_0000, 0x8000_0001), range(0xFFFF_0000, 0x1_0000_0000))

#: 64-bit sizes from here on, a terabyte, mean the same: no recording is that large.
_LEAST_UNKNOWN_LONG = 1 << 40

#: Where the size of the audio is unknown, the bytes at the end of the file in which chunks behind
#: the audio are searched for.
TAIL_BYTES = 1 << 20

#: Names of chunks that recorders and editors write behind the audio.
_TRAILING = tuple(
    name.encode()
    for name in (
        # RIFF and Wave64; GUANO, BWF and Wildlife Acoustics among them.
        *("LIST", "guan", "wamd", "bext", "iXML", "axml", "_PMX", "id3 ", "ID3 ", "cue ", "fact"),
        *("smpl", "inst", "acid", "PEAK", "levl", "umid", "qlty", "list", "junk", "JUNK", "FLLR"),
        # AIFF and CAF.
        *("NAME", "AUTH", "ANNO", "(c) ", "COMT", "MARK", "INST", "APPL", "MIDI", "AESD"),
        *("info", "strg", "mark", "regn", "uuid", "free", "chan", "midi", "ovvw"),
    )
)
#: A lookahead, since names may overlap.
_TRAILING_MARK = re.compile(b"(?=" + b"|".join(map(re.escape, _TRAILING)) + b")")


class ChunkLayout(NamedTuple):
    """The layout of chunk headers: RIFF, RIFX and AIFF, Wave64, or CAF."""

    header: struct.Struct
    #: Chunks are padded to a multiple of this length.
    padded_to: int = 2
    #: Whether the size of a chunk includes its header.
    counts_header: bool = False


RIFF = ChunkLayout(struct.Struct("<4sI"))
RIFX = ChunkLayout(struct.Struct(">4sI"))
W64 = ChunkLayout(struct.Struct("<16sQ"), padded_to=8, counts_header=True)
CAF = ChunkLayout(struct.Struct(">4sq"), padded_to=1)

#: The fixed part of the GUIDs of Wave64 chunks, after the name.
W64_GUID = bytes.fromhex("f3acd3118cd100c04f8edb8a")


def walk(
    file: BinaryIO, offset: int, file_bytes: int, layout: ChunkLayout
) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, content offset and declared size of each chunk."""
    for _ in range(_MOST_CHUNKS):
        file.seek(offset)
        raw = file.read(layout.header.size)
        if len(raw) < layout.header.size:
            return
        name, size = layout.header.unpack(raw)
        yield name, offset + layout.header.size, size
        offset = next_chunk(offset, size, layout)
        if size % 2 and layout in (RIFF, RIFX) and not _is_chunk(file, offset, file_bytes, layout):
            # Some programs do not pad chunks.
            offset -= _is_chunk(file, offset - 1, file_bytes, layout)
        if offset >= file_bytes:
            return


def _is_chunk(file: BinaryIO, offset: int, file_bytes: int, layout: ChunkLayout) -> bool:
    """Return whether a chunk may begin at a position: a name in ASCII, and a possible size.

    Audio may be cut off.
    """
    file.seek(offset)
    raw = file.read(layout.header.size)
    if len(raw) < layout.header.size:
        return False
    name, size = layout.header.unpack(raw)
    is_whole = offset + layout.header.size + size <= file_bytes
    return (is_whole or name in (b"data", b"SSND")) and all(0x20 <= byte < 0x7F for byte in name)


def next_chunk(offset: int, size: int, layout: ChunkLayout) -> int:
    """Return the position after a chunk at ``offset``."""
    content = size - layout.header.size if layout.counts_header else size
    padded = -(-max(content, 0) // layout.padded_to) * layout.padded_to
    return offset + layout.header.size + padded


def end_of_audio(file: BinaryIO, start: int, file_bytes: int, layout: ChunkLayout) -> int:
    """Return the end of audio of unknown size: the end of the file, or of the chunks before it.

    Trailing chunks have known names, and their sizes add up to the end of the file exactly (but for
    padding); anything else is taken for audio.
    """
    first = max(start, file_bytes - TAIL_BYTES)
    file.seek(first)
    tail = file.read(file_bytes - first)
    end = len(tail)
    # The positions from which chunks reach the end of the file. Marks are visited from the last one
    # on, so that each chunk is read once: a crafted file may consist of marks.
    reach_end: set[int] = set()
    for at in reversed([found.start() for found in _TRAILING_MARK.finditer(tail)]):
        if not _is_trailing(tail, at, layout):
            continue
        _, size = layout.header.unpack_from(tail, at)
        stop = next_chunk(at, size, layout)
        if stop in reach_end or stop - layout.padded_to < end <= stop:
            reach_end.add(at)
    return first + min(reach_end, default=end)


def _is_trailing(tail: bytes, at: int, layout: ChunkLayout) -> bool:
    if at + layout.header.size > len(tail) or tail[at : at + 4] not in _TRAILING:
        return False
    return layout is not W64 or tail[at + 4 : at + 16] == W64_GUID


def is_unknown(size: int) -> bool:
    """Return whether a 32-bit size is one that recorders write before they know it."""
    return size == 0 or any(size in sizes for sizes in _UNKNOWN_SIZES)


def is_unknown_long(size: int) -> bool:
    """Return whether a 64-bit size is one that recorders write before they know it."""
    return size <= 0 or size >= _LEAST_UNKNOWN_LONG
