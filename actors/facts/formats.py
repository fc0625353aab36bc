"""Detect the container of a file by its first bytes.

The API rejects other files; the workers choose their decoder by it. This module reads no file and
imports no library. File names and media types are not trusted, as the sender chooses them.
"""

from __future__ import annotations

#: How many of the first bytes of a file are needed.
HEAD_BYTES = 64

#: Display names of the supported containers.
NAMES = ("WAV", "RF64", "W64", "AIFF", "FLAC", "Ogg", "MP3", "MP4/M4A", "AAC", "WebM")

#: Starts a tag of any length, followed by an MP3, AAC or FLAC file.
TAG = b"ID3"

_W64_RIFF = bytes.fromhex("726966662e91cf11a5d628db04c10000")


def container_of(head: bytes) -> str | None:
    """Return the container of a file with these first bytes; None if it is unknown.

    One of ``wav``, ``rf64``, ``w64``, ``aiff``, ``flac``, ``ogg``, ``mp3``, ``mp4``, ``aac`` and
    ``webm``, or ``tagged`` if the container can only be detected after the tag.
    """
    if head[:4] in (b"RIFF", b"RF64", b"BW64") and head[8:12] == b"WAVE":
        return "wav" if head[:4] == b"RIFF" else "rf64"
    if head[:16] == _W64_RIFF and head[24:28] == b"wave":
        return "w64"
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return "aiff"
    if head[:3] == TAG and len(head) >= 10:
        return "tagged"
    return _of_streams(head)


def _of_streams(head: bytes) -> str | None:
    if head[:4] == b"fLaC":
        return "flac"
    if head[:4] == b"OggS":
        return "ogg"
    if head[4:8] == b"ftyp":
        return "mp4"
    if head[:4] == b"\x1a\x45\xdf\xa3":
        return "webm"
    if len(head) < 4 or head[0] != 0xFF:
        return None
    if head[1] & 0xF6 == 0xF0:
        return "aac"
    return "mp3" if is_mpeg_frame(head) else None


def is_mpeg_frame(head: bytes) -> bool:
    """Whether four bytes are a frame header of MPEG audio layer II or III."""
    version, layer = head[1] >> 3 & 3, head[1] >> 1 & 3
    bitrate, rate = head[2] >> 4, head[2] >> 2 & 3
    return (
        head[1] & 0xE0 == 0xE0
        and version != 1
        and layer in (1, 2)
        and bitrate not in (0, 15)
        and rate != 3
    )
