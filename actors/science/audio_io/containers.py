"""Container detection from a file's first bytes and chunk headers, without a decoder.

The format is recognised by content alone, since names and media types may be wrong. The chunks of
WAVE and AIFF files are parsed here because decoders silently shorten the length in the header to
that of the file, so that a truncated recording would appear complete.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from actors.facts import formats
from actors.science.errors import EmptyRecording, Undecodable, UnknownAudioFormat

#: Maximum number of chunks before the audio; a crafted file could have millions.
_MOST_CHUNKS = 1_000

#: Sizes from here up to 2 GiB, and just below 4 GiB, are written by recorders that cannot go back
#: to the header: no file is likely to have exactly these sizes.
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
        The FFmpeg demuxer for it. It is always set, never probed: with probing, a text file could
        pass as a playlist that points elsewhere.
    codec
        The codec according to the first bytes; empty if unknown.
    held_share
        The fraction of the declared audio bytes that is in the file, at most 1; ``None`` if the
        header declares no size or the container has no such header.
    promised_frames
        The length in the first frame of an MP3 file; ``None`` if there is none.
    patches
        Replacements for header bytes of the file, by offset.
    """

    name: str
    demuxer: str
    codec: str = ""
    held_share: float | None = None
    promised_frames: int | None = None
    patches: dict[int, bytes] = field(default_factory=dict)


#: FFmpeg demuxers of containers whose chunks are not parsed here, and the codec if the container
#: has only one.
_STREAMS = {
    "flac": ("flac", "flac"),
    "ogg": ("ogg", ""),
    "mp3": ("mp3", "mp3"),
    "mp4": ("mov", ""),
    "aac": ("aac", "aac"),
    "webm": ("matroska", ""),
}


def recognise(file: BinaryIO) -> Container:
    """Detect the container of a seekable binary file from its content.

    Raises
    ------
    EmptyRecording
        If the file has no bytes.
    UnknownAudioFormat
        If it is not a known container.
    Undecodable
        If a WAVE or AIFF file has no audio chunk.
    """
    file.seek(0)
    head = file.read(formats.HEAD_BYTES)
    if not head:
        raise EmptyRecording("the file is empty")
    name = formats.container_of(head)
    if name is None:
        raise UnknownAudioFormat
    if name in _WALKS:
        return _WALKS[name](file, name)
    tag_bytes = 0
    if name == "tagged":
        # The size of the tag has seven bits per byte. MP3, AAC and FLAC files all occur after it.
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
    """Return the number of audio frames from the header that encoders put into the first frame."""
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
    for chunk, offset, size in walk(file, 12, file_bytes, layout="<4sI"):
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
        # Decoders take a size of 0 literally; give them the actual size.
        patches = {
            4: struct.pack("<I", min(file_bytes - 8, 0xFFFF_FFFF)),
            offset - 4: struct.pack("<I", min(held, 0xFFFF_FFFF)),
        }
        return Container(name, "wav", patches=patches)
    raise Undecodable("the WAVE file has no data chunk")


def _w64(file: BinaryIO, name: str) -> Container:
    file_bytes = file.seek(0, 2)
    for chunk, offset, size in walk(file, 40, file_bytes, layout="<16sQ"):
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
    for chunk, offset, size in walk(file, 12, file_bytes, layout=">4sI"):
        if chunk == b"SSND":
            share = None if _is_unknown(size) else _share(file_bytes - offset, size)
            return Container(name, "aiff", held_share=share)
    raise Undecodable("the AIFF file has no sound chunk")


#: The containers whose chunks are parsed.
_WALKS: dict[str, Callable[[BinaryIO, str], Container]] = {
    "wav": _wave,
    "rf64": _wave,
    "w64": _w64,
    "aiff": _aiff,
}


def walk(
    file: BinaryIO, offset: int, file_bytes: int, *, layout: str
) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, content offset and size of each chunk.

    Chunks of RIFF and AIFF are padded to an even length and their size excludes the header; those
    of Wave64 are padded to eight bytes and their size includes the header.
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
