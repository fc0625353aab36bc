"""The time in the name of a recording, as recorders and phones write it.

Names that leave the time open are not used: a date alone, a date with a number
(``240702_0001.wav``), and forms that begin with the day or the month.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

from actors.science.audio_io.recording_time import clocks

#: A year of four digits, a month, a day and a time, with or without marks between them.
#: AudioMoth ``20240702_064404T.WAV``, Song Meter ``SM4_20240702$064404.wav`` (with GPS) and
#: ``SMU_20240702_064404_000.wav`` (with milliseconds), BAR-LT ``20240702T064404+0200_site.flac``,
#: BirdNET-Pi ``2024-07-02-birdnet-06:44:04.wav``, WhatsApp ``2024-07-02 at 6.44.04 PM``, Pixel
#: phones ``PXL_20240702_044404123.mp4``.
_LONG = re.compile(
    r"""
    (?<!\d) (?P<pixel>PXL_)?
    (?P<year>(?:19|20)\d\d) (?P<date_mark>[-_.]?) (?P<month>\d\d) (?P=date_mark) (?P<day>\d\d)
    (?P<joint> [T_$.-]? | [ _-](?:at[ _-])? | -birdnet-(?:RTSP_\d+-)? )
    (?P<hour>\d\d?) (?P<mark>[-:._]?) (?P<minute>\d\d) (?P=mark) (?P<second>\d\d)
    (?: [._,]? (?P<fraction>\d{3}|\d{6}) )?
    (?: [ _-]? (?P<utc>Z|UTC|GMT) (?![A-Za-z])
      | (?P<offset> [+-](?:0\d|1[0-4])[:-]?(?:00|15|30|45) | [+-](?:0\d|1[0-4]) )
      | [ ]? (?P<half>[AP]M)
    )?
    (?!\d)
    """,
    re.ASCII | re.VERBOSE,
)

#: A year of two digits: Zoom ``240702-064404.WAV``, Samsung ``Voice 240702_064404.m4a``, and behind
#: the number of the recorder SoundTrap ``5678.240702064404.wav``.
_SHORT = re.compile(
    r"(?: (?<!\d)(\d{6})[-_](\d{6})(?!\d) | ^\d+\.(\d{6})(\d{6})\. )", re.ASCII | re.VERBOSE
)
#: Earlier years of two digits are days, from names that begin with the day.
_FIRST_SHORT_YEAR = 10

#: Early AudioMoths: seconds since 1970, ``5C6DA5D1.WAV``. Eight digits without a letter may be any
#: number, and times before the first AudioMoth are chance.
_HEX = re.compile(r"(?=\d*[A-F])([0-9A-F]{8})\.wav", re.IGNORECASE)
_FIRST_HEX = datetime(2016, 1, 1, tzinfo=UTC)


def read(name: str) -> datetime | None:
    """Return the time in a file's name; None without one."""
    for found in _LONG.finditer(name):
        shown = _of_long(found.groupdict())
        if shown is not None:
            return shown
    for found in _SHORT.finditer(name):
        digits = "".join(filter(None, found.groups()))
        year, *rest = (int(digits[at : at + 2]) for at in range(0, 12, 2))
        shown = clocks.moment(2000 + year, *rest) if year >= _FIRST_SHORT_YEAR else None
        if shown is not None:
            return shown
    if (found_hex := _HEX.fullmatch(name)) is not None:
        shown = datetime.fromtimestamp(int(found_hex[1], 16), UTC)
        return shown if shown >= _FIRST_HEX else None
    return None


def _of_long(part: dict[str, str | None]) -> datetime | None:
    year, month, day, hour, minute, second = (
        int(part[name] or 0) for name in ("year", "month", "day", "hour", "minute", "second")
    )
    # Without marks, five digits are not a time.
    if not part["mark"] and len(part["hour"] or "") == 1:
        return None
    if part["half"]:
        if not 1 <= hour <= 12:
            return None
        hour = hour % 12 + (12 if part["half"] == "PM" else 0)
    offset = part["offset"]
    # A minus with two digits is an offset in ISO 8601, and the number of a copy elsewhere.
    if offset is not None and offset[0] == "-" and len(offset) == 3 and part["joint"] != "T":
        offset = None
    return clocks.moment(
        year,
        month,
        day,
        hour,
        minute,
        second,
        fraction=part["fraction"],
        # Pixel phones write UTC without naming it.
        offset="Z" if part["utc"] or part["pixel"] else offset,
    )
