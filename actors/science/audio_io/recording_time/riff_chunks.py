"""The chunks of WAVE, Wave64, AIFF and CAF files in which recorders write the time.

Some are before the audio and some behind it, also where the size of the audio is unknown. Nothing
here trusts a size: at most `MOST_BYTES` of a chunk are read, and only the first chunk of each kind.

Sources: GUANO 1.0; EBU Tech 3285 (``bext``); iXML 2.10; ``wa_meta.h`` of Wildlife Acoustics
(``wamd``); the firmware of AudioMoth (the comment).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import BinaryIO, Literal

from actors.science.audio_io import chunks
from actors.science.audio_io.recording_time import clocks

#: How much of a chunk or a tag is read. Real ones have a few hundred bytes, iXML a few thousand.
MOST_BYTES = 64 * 1024

#: Where the chunks begin, and their layout. A WAVE file may also be in big-endian order, as RIFX.
_LAYOUTS = {
    "wav": (12, chunks.RIFF),
    "rf64": (12, chunks.RIFF),
    "w64": (40, chunks.W64),
    "aiff": (12, chunks.RIFX),
    "caf": (8, chunks.CAF),
}
#: The chunks that are read, in lower case. ``info`` is a list of texts of a WAVE file,
#: and the tags of a CAF file.
KINDS = frozenset({b"guan", b"bext", b"ixml", b"info", b"wamd", b"id3 ", b"anno"})

#: The chunks with the audio.
_AUDIO = frozenset({b"data", b"ssnd"})

_ORIGINATION_DATE = re.compile(r"(\d{4})[-_:. /](\d\d)[-_:. /](\d\d)", re.ASCII)
_ORIGINATION_TIME = re.compile(r"(\d\d)[-_:. ](\d\d)[-_:. ](\d\d)", re.ASCII)
#: A sample count is used if it is as close to the stated time of day. A larger difference means
#: that it is not the time of day: many time codes start at 0 or 1 h with each recording.
_MOST_DIFFERENCE_S = 2.0
_DAY_S = 86_400.0

#: ``Recorded at 19:17:30 20/02/2019 (UTC-3:30) by AudioMoth 24F3190361DA3578 at ...``. The first
#: firmware wrote UTC without the words in parentheses.
_AUDIOMOTH = re.compile(
    r"Recorded at (\d\d):(\d\d):(\d\d)(?:\.(\d{3}))? (\d\d)/(\d\d)/(\d{4})"
    r"(?: \(UTC([+-]\d{1,2}(?:: ?\d{1,2})?)?\))? (?:by AudioMoth|during deployment)",
    re.ASCII,
)

_WAMD_START_TIME = 5


def read(file: BinaryIO, container: str) -> dict[bytes, bytes]:
    """Return the contents of the first chunk of each of `KINDS`."""
    found: dict[bytes, bytes] = {}
    if container not in _LAYOUTS:
        return found
    for chunk, offset, size in _chunks(file, container):
        file.seek(offset)
        kind = kind_of_list(file) if chunk == b"list" else chunk
        if kind in KINDS and kind not in found:
            found[kind] = file.read(max(0, min(offset + size - file.tell(), MOST_BYTES)))
    return found


def kind_of_list(file: BinaryIO) -> bytes:
    """Read what a list consists of, at the start of its contents."""
    return file.read(4).lower()


def _chunks(file: BinaryIO, container: str) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, offset and size of the contents of each chunk around the audio."""
    start, layout = _LAYOUTS[container]
    file.seek(0)
    if file.read(4) == b"RIFX":
        layout = chunks.RIFX
    file_bytes = file.seek(0, 2)
    long_size = 0
    # Twice: behind audio whose size is not in its header, it starts again.
    for _ in range(2):
        resume = None
        for full_name, offset, size in chunks.walk(file, start, file_bytes, layout):
            name = full_name[:4].lower()
            content = size - (layout.header.size if layout.counts_header else 0)
            if name == b"ds64":
                file.seek(offset + 8)
                long_size = int.from_bytes(file.read(8), "little")
            if name in _AUDIO:
                is_elsewhere = container == "rf64" and size == 0xFFFF_FFFF
                if is_elsewhere and not chunks.is_unknown_long(long_size):
                    resume = offset + long_size + long_size % 2
                    break
                if _is_unknown(content, layout):
                    resume = chunks.end_of_audio(file, offset, file_bytes, layout)
                    break
            yield name, offset, content
        if resume is None or resume >= file_bytes:
            return
        start = resume


def _is_unknown(content: int, layout: chunks.ChunkLayout) -> bool:
    if layout in (chunks.W64, chunks.CAF):
        # The audio of a CAF file begins with a count of four bytes.
        return content <= 4 or chunks.is_unknown_long(content)
    return chunks.is_unknown(content)


def info_texts(body: bytes) -> list[str]:
    """Return the texts of a list of texts."""
    found, position = [], 0
    # In the order of the file, which only one reading of the first size fits.
    order: Literal["little", "big"] = "little"
    if int.from_bytes(body[4:8], order) > len(body):
        order = "big"
    while position + 8 <= len(body):
        size = int.from_bytes(body[position + 4 : position + 8], order)
        found.append(text_of(body[position + 8 : position + 8 + size]))
        position += 8 + size + size % 2
    return found


def text_of(body: bytes) -> str:
    """Return the text of a chunk, up to its first null character."""
    return body.split(b"\0", 1)[0].decode(errors="replace")


def guano(body: bytes) -> datetime | None:
    """Return the ``Timestamp`` of GUANO metadata."""
    for line in body.decode(errors="replace").splitlines():
        key, _, value = line.partition(":")
        if key.strip(" \t\0\ufeff") == "Timestamp":
            return clocks.from_iso(value)
    return None


def bext(body: bytes, *, rate_hz: int) -> datetime | None:
    """Return the origination of a broadcast wave file, refined by its time reference."""
    if len(body) < 346:
        return None
    shown = _originated(text_of(body[320:330]), text_of(body[330:338]))
    return _refined(shown, int.from_bytes(body[338:346], "little"), rate_hz)


def ixml(body: bytes, *, rate_hz: int) -> datetime | None:
    """Return the origination in iXML metadata, refined by its time stamp.

    The document is searched rather than parsed: it needs seven plain elements, and an XML parser
    would expand entities.
    """
    is_utf16 = body[:2] in (b"\xff\xfe", b"\xfe\xff")
    text = body.decode("utf-16" if is_utf16 else "utf-8", errors="replace")

    def element(name: str) -> str:
        found = re.search(rf"<{name}>([^<]{{0,100}})</{name}>", text)
        return found[1].strip() if found else ""

    def number(name: str) -> int:
        value = element(name)
        return int(value) if value.isascii() and value.isdecimal() else 0

    shown = _originated(element("BWF_ORIGINATION_DATE"), element("BWF_ORIGINATION_TIME"))
    stamp = "TIMESTAMP_SAMPLES_SINCE_MIDNIGHT"
    samples = (number(f"{stamp}_HI") << 32) + number(f"{stamp}_LO")
    if not samples:
        # The time reference of `bext`, repeated.
        stamp = "BWF_TIME_REFERENCE"
        samples = (number(f"{stamp}_HIGH") << 32) + number(f"{stamp}_LOW")
    return _refined(shown, samples, number("TIMESTAMP_SAMPLE_RATE") or rate_hz)


def _originated(date: str, time: str) -> datetime | None:
    on, at = _ORIGINATION_DATE.fullmatch(date), _ORIGINATION_TIME.fullmatch(time)
    if on is None or at is None:
        return None
    return clocks.moment(*(int(each) for each in (*on.groups(), *at.groups())))


def _refined(shown: datetime | None, samples: int, rate_hz: int) -> datetime | None:
    """Replace the seconds of a time by a count of samples since midnight, if both agree."""
    # A count of 0 is one that was not written.
    if shown is None or not samples or samples >= _DAY_S * rate_hz:
        return shown
    midnight = shown.replace(hour=0, minute=0, second=0)
    since_midnight_s = samples / rate_hz
    # The shortest way around the clock, for a recording that began at midnight.
    half_s = _DAY_S / 2
    difference_s = since_midnight_s - (shown - midnight).total_seconds()
    difference_s = (difference_s + half_s) % _DAY_S - half_s
    try:
        refined = shown + timedelta(seconds=difference_s)
    except OverflowError:
        return shown
    return refined if abs(difference_s) <= _MOST_DIFFERENCE_S else shown


def audiomoth(text: str) -> datetime | None:
    """Return the time in a comment of an AudioMoth."""
    found = _AUDIOMOTH.search(text)
    if found is None:
        return None
    hour, minute, second, fraction, day, month, year, offset = found.groups()
    numbers = (int(each) for each in (year, month, day, hour, minute, second))
    return clocks.moment(*numbers, fraction=fraction, offset=offset or "UTC")


def wamd(body: bytes) -> datetime | None:
    """Return the start time in metadata of Wildlife Acoustics."""
    position = 0
    while position + 6 <= len(body):
        kind, size = struct.unpack_from("<HI", body, position)
        position += 6
        if kind == _WAMD_START_TIME:
            return clocks.from_iso(text_of(body[position : position + size]))
        position += size
    return None
