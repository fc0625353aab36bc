"""What a file's first bytes and chunk headers say, read without any decoder.

The format is recognised by content alone: a name or a media type is whatever the sender wrote.
The chunks of WAVE and AIFF files are walked here because decoders quietly shorten what a header
promises to what the file holds, and a recording that was cut off would pass as whole.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from actors.facts import formats
from actors.science.errors import EmptyRecording, Undecodable, UnknownFormat

#: A file can have this many chunks before its audio; a crafted one could have millions.
_MOST_CHUNKS = 1_000

#: Sizes from here up to 2 GiB, and in the last stretch below 4 GiB, are what recorders write that
#: cannot go back to the header: no file of that very size is likely.
_UNKNOWN_SIZES = (range(0x7FFF_0000, 0x8000_0001), range(0xFFFF_0000, 0x1_0000_0000))

#: 64-bit sizes from here on, a terabyte, mean the same: no recording is that large.
_LEAST_UNKNOWN_LONG = 1 << 40


@dataclass(frozen=True)
class Container:
    """A recognised file.

    Attributes
    ----------
    name
        ``wav``, ``rf64``, ``w64``, ``aiff``, ``flac``, ``ogg``, ``mp3``, ``mp4``, ``aac`` or
        ``webm``.
    demuxer
        The FFmpeg demuxer for it. It is always named, never probed: probing would let a text
        file pass as a play list that points elsewhere.
    codec
        What the first bytes say of the codec; empty when they do not.
    held_share
        The part of the promised audio bytes that the file holds, at most 1; ``None`` when the
        header promises nothing or the container has no such header.
    promised_frames
        The length that an MP3 file's first frame tells; ``None`` when it tells none.
    patches
        Header bytes to be read in place of the file's own, by offset.
    """

    name: str
    demuxer: str
    codec: str = ""
    held_share: float | None = None
    promised_frames: int | None = None
    patches: dict[int, bytes] = field(default_factory=dict)


#: Of containers whose chunks are not walked here: the FFmpeg demuxer, and the codec where the
#: container has but one.
_STREAMS = {
    "flac": ("flac", "flac"),
    "ogg": ("ogg", ""),
    "mp3": ("mp3", "mp3"),
    "mp4": ("mov", ""),
    "aac": ("aac", "aac"),
    "webm": ("matroska", ""),
}


def recognise(file: BinaryIO) -> Container:
    """Tell the container of a seekable binary file from its content.

    Raises
    ------
    EmptyRecording
        When the file has no bytes.
    UnknownFormat
        When it is none of the known containers.
    Undecodable
        When a WAVE or AIFF file has no audio chunk.
    """
    file.seek(0)
    head = file.read(formats.HEAD_BYTES)
    if not head:
        raise EmptyRecording("the file is empty")
    name = formats.container_of(head)
    if name is None:
        raise UnknownFormat
    if name in _WALKS:
        return _WALKS[name](file, name)
    tag_bytes = 0
    if name == "tagged":
        # The tag's size has seven bits a byte. MP3, AAC and FLAC files are all seen behind it.
        tag_bytes = 10 + sum((head[6 + i] & 0x7F) << (21 - 7 * i) for i in range(4))
        file.seek(tag_bytes)
        head = file.read(formats.HEAD_BYTES)
        behind = formats.container_of(head)
        name = behind if behind in _STREAMS else "mp3"
    demuxer, codec = _STREAMS[name]
    if name == "ogg":
        codec = _ogg_codec(head)
    promised = _mp3_frames(file, tag_bytes) if name == "mp3" else None
    return Container(name, demuxer, codec=codec, promised_frames=promised)


def _mp3_frames(file: BinaryIO, offset: int) -> int | None:
    """Frames of audio that the first MPEG frame counts, by the marks that encoders write."""
    file.seek(offset)
    frame = file.read(formats.HEAD_BYTES * 4)
    if len(frame) < 4 or not formats.is_mpeg_frame(frame):
        return None
    a_frame = 1_152 if frame[1] >> 3 & 3 == 3 else 576
    for mark, at in ((b"Xing", 8), (b"Info", 8), (b"VBRI", 14)):
        found = frame.find(mark)
        if found < 0 or found + at + 4 > len(frame):
            continue
        if mark == b"VBRI" or frame[found + 7] & 1:
            count: int = struct.unpack_from(">I", frame, found + at)[0]
            return count * a_frame or None
    return None


def _ogg_codec(head: bytes) -> str:
    if len(head) < 28:
        return ""
    packet = head[27 + head[26] :]
    marks = {b"\x01vorbis": "vorbis", b"OpusHead": "opus", b"\x7fFLAC": "flac", b"Speex": "speex"}
    return next((name for mark, name in marks.items() if packet.startswith(mark)), "")


def _wave(file: BinaryIO, name: str) -> Container:
    file_bytes = file.seek(0, 2)
    long_size = long_sizes_at = 0
    for chunk, offset, size in _walk(file, 12, file_bytes, layout="<4sI"):
        if chunk == b"ds64":
            file.seek(offset)
            body = file.read(16)
            if len(body) == 16:
                long_size, long_sizes_at = struct.unpack_from("<Q", body, 8)[0], offset
        if chunk != b"data":
            continue
        held = file_bytes - offset
        if size == 0xFFFF_FFFF and not _is_unknown_long(long_size) and name == "rf64":
            return Container(name, "wav", held_share=_share(held, long_size))
        if not _is_unknown(size):
            return Container(name, "wav", held_share=_share(held, size))
        if name == "rf64" and long_sizes_at:
            sizes = struct.pack("<QQ", file_bytes - 8, held)
            return Container(
                name, "wav", patches={long_sizes_at: sizes, offset - 4: b"\xff\xff\xff\xff"}
            )
        if name == "rf64":
            return Container(name, "wav")
        # Decoders take a size of 0 at its word; give them the size that is there.
        patches = {
            4: struct.pack("<I", min(file_bytes - 8, 0xFFFF_FFFF)),
            offset - 4: struct.pack("<I", min(held, 0xFFFF_FFFF)),
        }
        return Container(name, "wav", patches=patches)
    raise Undecodable("the WAVE file has no data chunk")


def _w64(file: BinaryIO, name: str) -> Container:
    file_bytes = file.seek(0, 2)
    for chunk, offset, size in _walk(file, 40, file_bytes, layout="<16sQ"):
        if chunk[:4] != b"data":
            continue
        held = file_bytes - offset
        if size > 24 and not _is_unknown_long(size):
            return Container(name, "w64", held_share=_share(held, size - 24))
        patches = {16: struct.pack("<Q", file_bytes), offset - 8: struct.pack("<Q", held + 24)}
        return Container(name, "w64", patches=patches)
    raise Undecodable("the Wave64 file has no data chunk")


def _aiff(file: BinaryIO, name: str) -> Container:
    file_bytes = file.seek(0, 2)
    for chunk, offset, size in _walk(file, 12, file_bytes, layout=">4sI"):
        if chunk == b"SSND":
            share = None if _is_unknown(size) else _share(file_bytes - offset, size)
            return Container(name, "aiff", held_share=share)
    raise Undecodable("the AIFF file has no sound chunk")


#: The containers whose chunks are walked.
_WALKS: dict[str, Callable[[BinaryIO, str], Container]] = {
    "wav": _wave, "rf64": _wave, "w64": _w64, "aiff": _aiff,
}  # fmt: skip


def _walk(
    file: BinaryIO, offset: int, file_bytes: int, *, layout: str
) -> Iterator[tuple[bytes, int, int]]:
    """Name, offset of the content, and size of one chunk after the other.

    Chunks of RIFF and AIFF are padded to an even length and their size leaves the header out;
    those of Wave64 are padded to eight bytes and their size has the header in it.
    """
    header = struct.Struct(layout)
    is_w64 = header.size == 24
    for _ in range(_MOST_CHUNKS):
        file.seek(offset)
        raw = file.read(header.size)
        if len(raw) < header.size:
            return
        name, size = header.unpack(raw)
        yield name, offset + header.size, size
        step = max(-(-size // 8) * 8, header.size) if is_w64 else header.size + size + size % 2
        offset += step
        if offset >= file_bytes:
            return


def _is_unknown(size: int) -> bool:
    return size == 0 or any(size in sizes for sizes in _UNKNOWN_SIZES)


def _is_unknown_long(size: int) -> bool:
    return size == 0 or size >= _LEAST_UNKNOWN_LONG


def _share(held: int, promised: int) -> float | None:
    return min(held / promised, 1.0) if promised > 0 else None
