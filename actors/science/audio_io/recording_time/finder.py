"""Find when a recording began: by the most trustworthy source in its file.

A recorder's own metadata goes first, then the name, which people change, and last the creation time
in a container's header, which many phones set when a recording ends.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import BinaryIO, Literal

from actors.facts import formats
from actors.science.audio_io.recording_time import (
    clocks,
    file_names,
    matroska,
    riff_chunks,
    tags,
)
from actors.science.audio_io.recording_time.clocks import Zone

#: Sources of the recording time, in the order of trust.
Origin = Literal["guano", "bext", "ixml", "comment", "wamd", "tag", "file_name", "creation_time"]

#: Earlier times are of clocks that were not set: they start in 1904, 1970 or 1980.
EARLIEST = datetime(1990, 1, 1, tzinfo=UTC)

#: The tags that state the start of a recording: Vorbis comments, those of BAR-LT recorders, ID3
#: 2.4, CAF, Matroska, and those of QuickTime.
_DATE_TAGS = frozenset(
    {
        *("date", "recordingstart", "tdrc", "recorded date", "date_recorded"),
        *("\xa9day", "com.apple.quicktime.creationdate"),
    }
)

#: Two candidates of a file within this time are of one clock.
_SAME_CLOCK_S = 2.0

_Candidate = tuple[Origin, datetime | None]


@dataclass(frozen=True)
class FoundTime:
    """When a recording began, in UTC, the source of this, and how it got its offset from UTC."""

    at: datetime
    origin: Origin
    zone: Zone


def find(
    file: BinaryIO,
    *,
    container: str,
    rate_hz: int,
    file_name: str,
    time_zone: str | None,
    not_after: datetime,
) -> FoundTime | None:
    """Return when a recording began; None if neither its metadata nor its name says.

    Parameters
    ----------
    file
        Seekable. At most some megabytes are read, whatever it contains; errors of its
        ``read`` are raised unchanged.
    container, rate_hz
        As the decoder found them.
    time_zone
        The IANA name of the zone of times without an offset; UTC is assumed without it.
    not_after
        Later times, and those before 1990, are of a wrong clock and are passed over.
    """
    candidates = [
        (origin, shown)
        for origin, shown in _candidates(file, container, rate_hz, file_name)
        if shown is not None
    ]
    for origin, shown in candidates:
        placed = clocks.to_utc(
            _with_offset(shown, [other for _, other in candidates]), time_zone=time_zone
        )
        if placed is not None and EARLIEST <= placed[0] <= not_after:
            return FoundTime(placed[0], origin, placed[1])
    return None


def _with_offset(shown: datetime, others: list[datetime]) -> datetime:
    """Return a time with its offset, or that of another candidate with the same clock time."""
    if shown.tzinfo is not None:
        return shown
    for other in others:
        difference = other.replace(tzinfo=None) - shown
        if other.tzinfo is not None and abs(difference.total_seconds()) <= _SAME_CLOCK_S:
            return shown.replace(tzinfo=other.tzinfo)
    return shown


def _candidates(
    file: BinaryIO, container: str, rate_hz: int, file_name: str
) -> Iterator[_Candidate]:
    chunks = riff_chunks.read(file, container)
    found = tags.id3(chunks.get(b"id3 ", b""))
    created = None
    if container == "caf":
        found += tags.caf(chunks.pop(b"info", b""))
    if container in ("mp3", "flac", "aac"):
        file.seek(0)
        tag_bytes = tags.id3_bytes(file.read(formats.HEAD_BYTES))
        file.seek(0)
        found += tags.id3(file.read(min(tag_bytes, riff_chunks.MOST_BYTES)))
        if container == "flac":
            comments, chunks = tags.flac(file, tag_bytes)
            found += comments
    elif container == "ogg":
        found += tags.ogg(file)
    elif container == "mp4":
        mp4_tags, created = tags.mp4(file)
        found += mp4_tags
    elif container in ("matroska", "webm"):
        matroska_tags, created = matroska.read(file)
        found += matroska_tags
    elif container == "asf":
        created = tags.asf(file)
    texts = riff_chunks.info_texts(chunks.get(b"info", b""))
    texts += [riff_chunks.text_of(chunks.get(b"anno", b"")), *(value for _, value in found)]
    dates = [clocks.from_iso(value) for name, value in found if name in _DATE_TAGS]
    yield "guano", riff_chunks.guano(chunks.get(b"guan", b""))
    yield "bext", riff_chunks.bext(chunks.get(b"bext", b""), rate_hz=rate_hz)
    yield "ixml", riff_chunks.ixml(chunks.get(b"ixml", b""), rate_hz=rate_hz)
    yield "comment", _first(riff_chunks.audiomoth(text) for text in texts)
    yield "wamd", riff_chunks.wamd(chunks.get(b"wamd", b""))
    yield "tag", _first(dates)
    yield "file_name", file_names.read(file_name)
    yield "creation_time", created


def _first(times: Iterator[datetime | None] | list[datetime | None]) -> datetime | None:
    return next((each for each in times if each is not None), None)
