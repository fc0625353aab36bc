"""Times as files state them, and their place in UTC.

A time without an offset from UTC is a naive `datetime`: what the clock of the recorder showed.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Literal
from zoneinfo import ZoneInfo

#: How a time got its offset from UTC: from the file, from the caller's ``time_zone``, or, without
#: either, by the assumption that the clock showed UTC.
Zone = Literal["file", "time_zone", "assumed_utc"]

#: The largest offset from UTC in use, in hours.
MAX_OFFSET_HOURS = 14

#: ISO 8601, and the variants that recorders write: a space for the T, an offset of one digit, no
#: seconds.
_ISO = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[T ](\d\d):(\d\d)(?::(\d\d)(?:[.,](\d{1,9}))?)? ?"
    r"(Z|UTC|[+-]\d{1,2}(?::?\d\d)?)?",
    re.ASCII,
)
_OFFSET = re.compile(r"([+-])(\d{1,2})(?:[: -]*(\d\d))?", re.ASCII)


def from_iso(text: str) -> datetime | None:
    """Read a date with a time of day; None for any other text, such as a date alone."""
    found = _ISO.fullmatch(text.strip(" \t\r\n\0"))
    if found is None:
        return None
    *numbers, fraction, offset = found.groups()
    return moment(*(int(each or 0) for each in numbers), fraction=fraction, offset=offset)


def moment(
    year: int,
    month: int,
    day: int,
    hour: int,
    minute: int,
    second: int,
    *,
    fraction: str | None = None,
    offset: str | None = None,
) -> datetime | None:
    """Return the time of these numbers; None if the time or the offset does not exist.

    Parameters
    ----------
    fraction
        The decimals of the seconds.
    offset
        From UTC: ``Z``, ``UTC``, ``+2``, ``-03:30``. Without one the time is naive.
    """
    microsecond = int((fraction or "0").ljust(6, "0")[:6])
    try:
        shown = datetime(year, month, day, hour, minute, second, microsecond)
        return shown if offset is None else shown.replace(tzinfo=_zone_of(offset))
    except ValueError:
        return None


def _zone_of(offset: str) -> timezone:
    found = _OFFSET.fullmatch(offset)
    if found is None:
        return UTC
    sign, hours, minutes = found.groups()
    if int(hours) > MAX_OFFSET_HOURS or int(minutes or 0) >= 60:
        raise ValueError("no such offset")
    size = timedelta(hours=int(hours), minutes=int(minutes or 0))
    return timezone(-size if sign == "-" else size)


def to_utc(shown: datetime, *, time_zone: str | None) -> tuple[datetime, Zone] | None:
    """Return a time in UTC and how it got its offset; None for one at the end of the calendar.

    Where clocks are put back, an hour occurs twice; the first one is meant. Where they are put
    forward, the clock of a recorder that shows a skipped time has not been changed.
    """
    zone: Zone = "assumed_utc"
    if shown.tzinfo is not None:
        zone = "file"
    elif time_zone is not None:
        zone = "time_zone"
        shown = shown.replace(tzinfo=ZoneInfo(time_zone))
    else:
        shown = shown.replace(tzinfo=UTC)
    try:
        return shown.astimezone(UTC), zone
    except OverflowError:
        return None
