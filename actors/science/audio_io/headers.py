"""The position and the size of the audio in files of chunks: WAVE, Wave64, AIFF and CAF.

Decoders silently shorten the length in the header to that of the file, so that a truncated
recording would appear complete. They take other wrong sizes literally: a recorder that writes into
a pipe, or is switched off, leaves 0, -1 or a maximum there. So chunks are parsed here, and wrong
sizes are replaced.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import BinaryIO, Literal, NamedTuple

from actors.science.errors import Undecodable

#: Maximum number of chunks before the audio; a crafted file could have millions.
_MOST_CHUNKS = 1_000

#: The format of a WAVE file has 14 to 50 bytes, with tables of a codec some hundred.
_MOST_FORMAT_BYTES = 4_096

#: Sizes from here up to 2 GiB, and just below 4 GiB, are written by recorders that cannot go back
#: to the header: no file is likely to have exactly these sizes.
_UNKNOWN_SIZES = (range(0x7FFF_0000, 0x8000_0001), range(0xFFFF_0000, 0x1_0000_0000))

#: With as much as this behind it, 4 GiB, audio has a size that did not fit into 32 bits.
_TOO_MUCH_BEHIND = 1 << 32

#: 64-bit sizes from here on, a terabyte, mean the same: no recording is that large.
_LEAST_UNKNOWN_LONG = 1 << 40

#: Where the size of the audio is unknown, the bytes at the end of the file in which chunks behind
#: the audio are searched for.
TAIL_BYTES = 1 << 20

#: Bytes before the audio in which the comment of the recorder is searched for.
_MOST_NOTE_BYTES = 4_096

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

#: The description of the audio of a CAF file: rate, codec, flags, bytes and frames of a packet,
#: channels, and bits of a sample.
_CAF_DESCRIPTION = struct.Struct(">d4sIIIII")
_CAF_FLOAT = 1

#: The fixed part of the GUIDs of Wave64 chunks, after the name.
W64_GUID = bytes.fromhex("f3acd3118cd100c04f8edb8a")


@dataclass(frozen=True)
class Audio:
    """The audio of a file of chunks.

    Attributes
    ----------
    held_share
        The fraction of the declared audio bytes that is in the file, at most 1; ``None`` if the
        header declares no size.
    patches
        Replacements for header bytes of the file, by offset.
    audiomoth_start
        The position of the audio in a file of AudioMoth, whose blocks are aligned to the file.
    duration_s
        The declared duration of the longest track; ``None`` if the header declares none.
    begin
        The position in the file where the decoder begins; patches are relative to it.
    """

    held_share: float | None = None
    patches: dict[int, bytes] = field(default_factory=dict)
    audiomoth_start: int | None = None
    duration_s: float | None = None
    begin: int = 0


def wave(file: BinaryIO) -> Audio:
    """Find the audio of a RIFF, RIFX, RF64 or BW64 file; raise Undecodable without any."""
    audio, start = _wave(file)
    file.seek(0)
    is_audiomoth = b"AudioMoth" in file.read(min(start, _MOST_NOTE_BYTES))
    return replace(audio, audiomoth_start=start) if is_audiomoth else audio


def _wave(file: BinaryIO) -> tuple[Audio, int]:
    """Return the audio of a WAVE file and its position."""
    file.seek(0)
    kind = file.read(4)
    layout = RIFX if kind == b"RIFX" else RIFF
    is_long = kind in (b"RF64", b"BW64")
    order = layout.header.format[0]
    file_bytes = file.seek(0, 2)
    long_size = long_sizes_at = 0
    chunks = walk(file, 12, file_bytes, layout)
    form, next_at, is_padded = b"", 12, True
    for chunk, offset, size in chunks:
        is_padded = is_padded and offset == next_at + layout.header.size
        next_at = _next_chunk(offset - layout.header.size, size, layout)
        if chunk == b"fmt " and size <= _MOST_FORMAT_BYTES:
            file.seek(offset)
            form = file.read(size)
        if chunk == b"ds64":
            file.seek(offset)
            body = file.read(16)
            if len(body) == 16:
                long_size, long_sizes_at = struct.unpack_from("<Q", body, 8)[0], offset
        if chunk != b"data":
            continue
        if form and not is_padded and not is_long:
            n_audio = size
            if is_unknown(size):
                n_audio = end_of_audio(file, offset, file_bytes, layout) - offset
            return _behind_unpadded(kind, form, offset, n_audio, file_bytes), offset
        if is_long and size == 0xFFFF_FFFF and not is_unknown_long(long_size):
            return Audio(share(file_bytes - offset, long_size)), offset
        if not is_unknown(size) and offset + size > file_bytes - _TOO_MUCH_BEHIND:
            # Decoders prefer a long size, even if it is wrong.
            long_sizes = struct.pack("<QQ", file_bytes - 8, size)
            patches = {long_sizes_at: long_sizes} if long_sizes_at else {}
            promised, held = size, min(size, file_bytes - offset)
            for other, at, more in chunks:
                if other == chunk:
                    # libsndfile refuses a second one, and FFmpeg ignores the first.
                    patches[at - 8] = b"JUNK"
                    promised += min(more, file_bytes - at)
            return Audio(share(held, promised), patches), offset
        held = end_of_audio(file, offset, file_bytes, layout) - offset
        if long_sizes_at:
            sizes = struct.pack("<QQ", file_bytes - 8, held)
            return Audio(None, {long_sizes_at: sizes, offset - 4: b"\xff\xff\xff\xff"}), offset
        # Decoders take a size of 0 literally.
        patches = {offset - 4: struct.pack(order + "I", min(held, 0xFFFF_FFFF))}
        if is_long:
            # Without its long sizes it is a RIFF file.
            patches[0] = b"RIFF"
        patches[4] = struct.pack(order + "I", min(file_bytes - 8, 0xFFFF_FFFF))
        return Audio(None, patches), offset
    raise Undecodable("the WAVE file has no data chunk")


def _behind_unpadded(kind: bytes, form: bytes, start: int, n_audio: int, file_bytes: int) -> Audio:
    """Return audio behind chunks without padding, in which decoders lose their way.

    It gets a header without them. There is room for it before the audio, where the same and these
    chunks are.
    """
    order: Literal["little", "big"] = "big" if kind == b"RIFX" else "little"
    # The format may be the chunk without padding.
    form = form[: len(form) // 2 * 2]
    held = min(n_audio, file_bytes - start)

    def chunk(name: bytes, size: int) -> bytes:
        return name + min(size, 0xFFFF_FFFF).to_bytes(4, order)

    body = b"WAVE" + chunk(b"fmt ", len(form)) + form + chunk(b"data", held)
    header = chunk(kind, len(body) + held) + body
    return Audio(share(held, n_audio), {0: header}, begin=start - len(header))


def w64(file: BinaryIO) -> Audio:
    """Find the audio of a Wave64 file; raise Undecodable without any."""
    file_bytes = file.seek(0, 2)
    for chunk, offset, size in walk(file, 40, file_bytes, W64):
        if chunk[:4] != b"data":
            continue
        if size > W64.header.size and not is_unknown_long(size):
            return Audio(share(file_bytes - offset, size - W64.header.size))
        held = end_of_audio(file, offset, file_bytes, W64) - offset
        sizes = [struct.pack("<Q", n_bytes) for n_bytes in (file_bytes, held + W64.header.size)]
        return Audio(None, {16: sizes[0], offset - 8: sizes[1]})
    raise Undecodable("the Wave64 file has no data chunk")


def aiff(file: BinaryIO) -> Audio:
    """Find the audio of an AIFF file; raise Undecodable without any."""
    file_bytes = file.seek(0, 2)
    for chunk, offset, size in walk(file, 12, file_bytes, RIFX):
        if chunk != b"SSND":
            continue
        if not is_unknown(size):
            return Audio(share(file_bytes - offset, size))
        held = end_of_audio(file, offset, file_bytes, RIFX) - offset
        return Audio(None, {offset - 4: struct.pack(">I", min(held, 0xFFFF_FFFF))})
    raise Undecodable("the AIFF file has no sound chunk")


def caf(file: BinaryIO) -> Audio:
    """Find the audio of a CAF file; raise Undecodable without any."""
    file_bytes = file.seek(0, 2)
    patches: dict[int, bytes] = {}
    for chunk, offset, size in walk(file, 8, file_bytes, CAF):
        if chunk == b"desc":
            patches = _whole_bytes(file, offset)
        if chunk != b"data":
            continue
        held, held_share = file_bytes - offset, None
        if size <= 4 or is_unknown_long(size):
            held = end_of_audio(file, offset, file_bytes, CAF) - offset
        elif size > held:
            held_share = share(held, size)
        else:
            return Audio(1.0, patches)
        # libsndfile loses some frames if the size is beyond the end.
        return Audio(held_share, patches | {offset - 8: struct.pack(">q", held)})
    raise Undecodable("the CAF file has no data chunk")


def _whole_bytes(file: BinaryIO, offset: int) -> dict[int, bytes]:
    """Return a patch for a CAF description of samples that do not fill their bytes.

    They are the high bits of these, as 24 bits in 32 are; decoders expect them to be packed.
    """
    file.seek(offset)
    body = file.read(_CAF_DESCRIPTION.size)
    if len(body) < _CAF_DESCRIPTION.size:
        return {}
    _, codec, flags, n_bytes, n_frames, n_channels, bits = _CAF_DESCRIPTION.unpack(body)
    n_samples = n_frames * n_channels
    if codec != b"lpcm" or flags & _CAF_FLOAT or not n_samples or n_bytes % n_samples:
        return {}
    whole_bits = 8 * n_bytes // n_samples
    at = offset + _CAF_DESCRIPTION.size - 4
    return {at: struct.pack(">I", whole_bits)} if 0 < bits < whole_bits <= 32 else {}


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
        offset = _next_chunk(offset, size, layout)
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
    return (is_whole or name == b"data") and all(0x20 <= byte < 0x7F for byte in name)


def _next_chunk(offset: int, size: int, layout: ChunkLayout) -> int:
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
        stop = _next_chunk(at, size, layout)
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


def share(held: int, promised: int) -> float | None:
    """Return the fraction of the declared bytes that is there; None if none are declared."""
    return min(max(held, 0) / promised, 1.0) if promised > 0 else None
