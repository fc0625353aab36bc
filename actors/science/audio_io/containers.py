"""Container detection from a file's content, without a decoder.

The format is recognised by content alone, since names and media types may be wrong.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import BinaryIO, NamedTuple, cast

from actors.facts import formats, frames
from actors.science.audio_io import headers, lengths
from actors.science.audio_io.headers import Audio
from actors.science.audio_io.patched_file import PatchedFile
from actors.science.errors import EmptyRecording, Undecodable, UnknownAudioFormat

#: Maximum number of tags before the audio: an ID3 tag is often followed by another.
_MOST_TAGS = 8

#: Maximum number of boxes of an MP4 file before its index.
_MOST_BOXES = 10_000

#: Bytes of the header of an ID3 tag and of an APE tag; the size in the tag excludes them.
_ID3_BYTES, _APE_TAG_BYTES = 10, 32


@dataclass(frozen=True)
class Container:
    """A recognised file.

    Attributes
    ----------
    name
        As returned by `formats.container_of`, but never ``tagged``.
    demuxer
        The FFmpeg demuxer for it. It is always set, never probed: with probing, a text file could
        pass as a playlist that points elsewhere.
    start
        The position in the file where the decoder begins: after tags and other bytes.
    held_share
        The fraction of the declared audio bytes that is in the file, at most 1; ``None`` if the
        header declares no size or the container has no such header.
    promised_frames
        The length in the first frame of an MP3 file; ``None`` if there is none.
    patches
        Replacements for header bytes of the file, by offset from ``start``.
    audiomoth_start, duration_s
        As in `headers.Audio`.
    """

    name: str
    demuxer: str
    start: int = 0
    held_share: float | None = None
    promised_frames: int | None = None
    patches: dict[int, bytes] = field(default_factory=dict)
    audiomoth_start: int | None = None
    duration_s: float | None = None


class _Kind(NamedTuple):
    """The FFmpeg demuxer of a container, and how the audio in its chunks is found."""

    demuxer: str
    find_audio: Callable[[BinaryIO], Audio] | None = None


_KINDS = {
    "wav": _Kind("wav", headers.wave),
    "rf64": _Kind("wav", headers.wave),
    "w64": _Kind("w64", headers.w64),
    "aiff": _Kind("aiff", headers.aiff),
    "caf": _Kind("caf", headers.caf),
    "au": _Kind("au", lengths.au),
    "flac": _Kind("flac"),
    "ogg": _Kind("ogg"),
    "mp3": _Kind("mp3"),
    "aac": _Kind("aac"),
    "latm": _Kind("loas"),
    "ac3": _Kind("ac3"),
    "eac3": _Kind("eac3"),
    "mp4": _Kind("mov"),
    "webm": _Kind("matroska"),
    "matroska": _Kind("matroska"),
    "avi": _Kind("avi"),
    "ts": _Kind("mpegts"),
    "ps": _Kind("mpeg"),
    "asf": _Kind("asf", lengths.asf),
    "flv": _Kind("flv"),
    "amr": _Kind("amr"),
    "wavpack": _Kind("wv"),
    "tta": _Kind("tta"),
    "ape": _Kind("ape"),
    "mpc": _Kind("mpc"),
    "mpc8": _Kind("mpc8"),
    "dsf": _Kind("dsf"),
    "dff": _Kind("iff"),
    "tak": _Kind("tak"),
    "voc": _Kind("voc", lengths.voc),
    "nist": _Kind("nistsphere", lengths.nist),
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
        If a file of chunks has no audio chunk, or an MP4 file no index.
    """
    head = _head(file, 0)
    if not head:
        raise EmptyRecording("the file is empty")
    start = 0
    name = formats.container_of(head)
    for _ in range(_MOST_TAGS):
        if name != "tagged":
            break
        start += tag_bytes(head)
        head = _head(file, start)
        name = formats.container_of(head)
    if start and name is None:
        # The size of the tag is wrong.
        start, head = _ID3_BYTES, _head(file, _ID3_BYTES)
        name = formats.container_of(head)
    if name is None or name == "tagged":
        raise UnknownAudioFormat
    demuxer, find_audio = _KINDS[name]
    if find_audio is not None:
        visible = PatchedFile(file, patches={}, part=range(start, file.seek(0, 2)))
        audio = find_audio(cast(BinaryIO, visible))
        visible.reraise()
        return Container(
            name,
            demuxer,
            start=start + audio.begin,
            held_share=audio.held_share,
            patches=audio.patches,
            audiomoth_start=audio.audiomoth_start,
            duration_s=audio.duration_s,
        )
    if name == "mp4":
        _require_index(file, start)
    if name not in frames.NAMES:
        return Container(name, demuxer, start=start)
    first = frames.find(head, is_whole=len(head) < formats.HEAD_BYTES)
    if first is None or first[0] != name:
        return Container(name, demuxer, start=start)
    promised = _mp3_frames(head[first[1] :]) if name == "mp3" else None
    return Container(name, demuxer, start=start + first[1], promised_frames=promised)


def _require_index(file: BinaryIO, start: int) -> None:
    """Raise Undecodable if an MP4 file has no ``moov``, which most recorders write at the end."""
    file_bytes = file.seek(0, 2)
    for _ in range(_MOST_BOXES):
        file.seek(start)
        head = file.read(16)
        if len(head) < 8:
            break
        size, kind = int.from_bytes(head[:4], "big"), head[4:8]
        if kind == b"moov":
            return
        if size == 1:
            size = int.from_bytes(head[8:], "big")
        # 0 means up to the end of the file; damaged sizes are left to the decoder.
        if 0 < size < 8:
            return
        start = start + size if size else file_bytes
    else:
        return
    raise Undecodable(
        "the MP4 file has no index (moov), which recorders write last: the recording or its copy"
        " was interrupted; copy it again, or repair it with the recorder's software"
    )


def _head(file: BinaryIO, start: int) -> bytes:
    file.seek(start)
    return file.read(formats.HEAD_BYTES)


def tag_bytes(head: bytes) -> int:
    """Return the length of the tag at the start of a file."""
    if head.startswith(formats.ID3):
        # Seven bits per byte.
        return _ID3_BYTES + sum((head[6 + i] & 0x7F) << (21 - 7 * i) for i in range(4))
    size: int = struct.unpack_from("<I", head, 12)[0]
    return _APE_TAG_BYTES + size


def _mp3_frames(frame: bytes) -> int | None:
    """Return the number of audio frames from the header that encoders put into the first frame."""
    frame = frame[:256]
    for mark, at in ((b"Xing", 8), (b"Info", 8), (b"VBRI", 14)):
        found = frame.find(mark)
        if found < 0 or found + at + 4 > len(frame):
            continue
        if mark == b"VBRI" or frame[found + 7] & 1:
            count: int = struct.unpack_from(">I", frame, found + at)[0]
            return count * frames.mpeg_samples(frame) or None
    return None
