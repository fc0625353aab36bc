"""A local day: from local midnight to local midnight, its hours, and its sound.

A day has 23, 24 or 25 hours, or 23.5 or 24.5 where clocks change by half an hour. Here an *hour* is
an interval in which local clocks show one hour at one offset from UTC: when clocks go back, an hour
occurs twice, with two offsets, and when they go forward one is missing. So hours are identified by
their labels, and all of them together are the day.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import NamedTuple, TypedDict
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from actors.facts import rounding
from actors.science.levels.totals import lden_db, to_db

#: Resolution of the stored levels of each recording: quarters of an hour in UTC, which divide the
#: hours of every current time zone.
QUARTER_S = 900.0

#: The periods of Directive 2002/49/EC, annex I, by the local hours of their start and end. The
#: night of a calendar day has two parts.
PERIODS: dict[str, tuple[tuple[int, int], ...]] = {
    "day": ((7, 19),),
    "evening": ((19, 23),),
    "night": ((0, 7), (23, 24)),
}


class NoSuchDay(ValueError):
    """A time zone skipped this day, or the date is out of range."""


@dataclass(frozen=True)
class Hour:
    """An interval in which clocks show one hour, at one offset."""

    begin: datetime
    end: datetime
    #: Local time of its start, with the offset: ``02:00+02:00``.
    label: str
    #: The hour that clocks show, 0 to 23.
    local_hour: int

    @property
    def period(self) -> str:
        """``day``, ``evening`` or ``night``."""
        return next(
            name
            for name, parts in PERIODS.items()
            if any(first <= self.local_hour < last for first, last in parts)
        )


@dataclass(frozen=True)
class Day:
    """A day in a time zone, with its hours in order."""

    date: date
    zone: str
    hours: tuple[Hour, ...]

    @property
    def begin(self) -> datetime:
        """The midnight at its start, in UTC."""
        return self.hours[0].begin

    @property
    def end(self) -> datetime:
        """The midnight at its end, in UTC."""
        return self.hours[-1].end

    @property
    def edges_s(self) -> NDArray[np.float64]:
        """The starts of its hours, and the end of the last one, in seconds since 1970."""
        return np.array([*(hour.begin.timestamp() for hour in self.hours), self.end.timestamp()])


def day_of(day: date, zone: str) -> Day:
    """Return a day in a time zone.

    Raises
    ------
    NoSuchDay
        If the time zone skipped the day, or the date is out of range.
    zoneinfo.ZoneInfoNotFoundError
        If there is no such zone.
    """
    local = ZoneInfo(zone)
    try:
        begin = datetime.combine(day, time(), local).astimezone(UTC)
        end = datetime.combine(day + timedelta(days=1), time(), local).astimezone(UTC)
    except OverflowError:
        raise NoSuchDay(f"the date {day} is out of range") from None
    # Clock changes only happen at the start of a minute, except those from local mean time, where
    # an hour may end some seconds late.
    minutes = [
        begin + timedelta(minutes=index)
        for index in range(math.ceil((end - begin).total_seconds() / 60))
    ]
    hours = []
    for (hour, offset), group in itertools.groupby(minutes, lambda each: _shown(each, local)):
        first = next(group)
        shown = first.astimezone(local)
        hours.append((first, f"{shown:%H:%M}{_offset(offset)}", hour))
    if not hours:
        raise NoSuchDay(f"there was no {day} in {zone}")
    ends = [*(begin for begin, _, _ in hours[1:]), end]
    return Day(
        day,
        zone,
        tuple(
            Hour(begin, end, label, hour)
            for (begin, label, hour), end in zip(hours, ends, strict=True)
        ),
    )


def _shown(moment: datetime, local: ZoneInfo) -> tuple[int, timedelta]:
    shown = moment.astimezone(local)
    return shown.hour, shown.utcoffset() or timedelta()


def _offset(offset: timedelta) -> str:
    minutes = round(offset.total_seconds() / 60)
    return f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}"


# --- sound -------------------------------------------------------------------------------------


class RecordedInterval(NamedTuple):
    """An interval of a recording, in seconds since 1970, and its A-weighted mean square.

    ``overload`` and ``overload_energy`` are the overloaded shares of its time and of its energy;
    NaN if they were not measured.
    """

    begin_s: float
    end_s: float
    mean_square: float
    overload: float = math.nan
    overload_energy: float = math.nan


def recorded_intervals(
    begin_s: float,
    duration_s: float,
    quarters: Sequence[float],
    *,
    overloads: Sequence[tuple[float, float]] | None = None,
    holes: Sequence[tuple[float, float]] = (),
) -> list[RecordedInterval]:
    """Return the intervals of a recording: its quarters of an hour, without its holes.

    Parameters
    ----------
    begin_s, duration_s
        Start of the recording, in seconds since 1970, and its duration.
    quarters
        Mean squares of the quarters of an hour that it touches, over the recorded part of each.
    overloads
        The overloaded shares of the time and of the energy of these quarters, if measured.
    holes
        Start and end of the intervals without audio, in seconds of the recording, in order.
    """
    end_s = begin_s + duration_s
    first = math.floor(begin_s / QUARTER_S)
    shares = [(math.nan, math.nan)] * len(quarters) if overloads is None else overloads
    found = []
    from_s = begin_s
    for hole_start_s, hole_end_s in [*holes, (duration_s, duration_s)]:
        until_s = min(begin_s + hole_start_s, end_s)
        for at, (mean_square, share) in enumerate(zip(quarters, shares, strict=True), first):
            within = max(from_s, at * QUARTER_S), min(until_s, (at + 1) * QUARTER_S)
            if within[0] < within[1]:
                found.append(RecordedInterval(*within, mean_square, *share))
        from_s = max(from_s, begin_s + hole_end_s)
    return found


def lead_s(begin: datetime) -> float:
    """Return the time from the start of a quarter of an hour to that of a recording in it."""
    return begin.timestamp() % QUARTER_S


class HourSound(TypedDict):
    """The level of an hour, and the share of it that was recorded."""

    laeq_db: float | None
    covered: float


class DayOverload(TypedDict):
    """The overloaded seconds of a day, and their shares of its recorded time and energy.

    Of the recordings in which overload was measured; null without any, and the share of the energy
    also for digital silence.
    """

    overloaded_s: float | None
    share: float | None
    energy_share: float | None


class DaySound(TypedDict):
    """The levels of a day, and the shares of its periods and of the whole that were recorded."""

    laeq_db: float | None
    lday_db: float | None
    levening_db: float | None
    lnight_db: float | None
    lden_db: float | None
    covered: dict[str, float]
    overload: DayOverload
    hours: list[HourSound]


def sound(day: Day, recorded: Sequence[RecordedInterval]) -> DaySound:
    """Return the levels of a day, and the share of the day that they cover.

    Levels are energy means over the recorded seconds, in dB relative to the reference of the mean
    squares. Time that was recorded twice, by two microphones, counts twice in a level, and once in
    a share. A level is None if nothing is recorded, or only silence.
    """
    edges_s = day.edges_s
    energies, seconds = _by_hour(edges_s, recorded)
    covered_s = _covered_s(edges_s, recorded)
    lengths_s = np.diff(edges_s)
    in_period = {
        name: np.array([hour.period == name for hour in day.hours]) for name in PERIODS
    } | {"whole": np.ones(len(day.hours), dtype=bool)}
    means = {name: _mean(energies[at], seconds[at]) for name, at in in_period.items()}
    return DaySound(
        laeq_db=_rounded(means["whole"]),
        lday_db=_rounded(means["day"]),
        levening_db=_rounded(means["evening"]),
        lnight_db=_rounded(means["night"]),
        lden_db=_lden(means["day"], means["evening"], means["night"]),
        covered={
            # Avoid a division by zero for a period that a clock change has removed completely.
            name: rounding.share(covered_s[at].sum() / max(lengths_s[at].sum(), 1.0))
            for name, at in in_period.items()
        },
        overload=_overload(edges_s, recorded),
        hours=[
            HourSound(
                laeq_db=_rounded(_mean(energies[at : at + 1], seconds[at : at + 1])),
                covered=rounding.share(covered_s[at] / lengths_s[at]),
            )
            for at in range(len(day.hours))
        ],
    )


def _overload(edges_s: NDArray[np.float64], recorded: Sequence[RecordedInterval]) -> DayOverload:
    """Return the overloaded shares between the first edge and the last."""
    table = np.array(recorded, dtype=np.float64).reshape(-1, len(RecordedInterval._fields))
    table = table[~np.isnan(table[:, 3])]
    inside_s = np.minimum(table[:, 1], edges_s[-1]) - np.maximum(table[:, 0], edges_s[0])
    inside_s = np.maximum(inside_s, 0.0)
    energies = table[:, 2] * inside_s
    overloaded_s = rounding.seconds(float(table[:, 3] @ inside_s))
    return DayOverload(
        overloaded_s=overloaded_s if inside_s.any() else None,
        share=_weighted(table[:, 3], inside_s),
        energy_share=_weighted(table[:, 4], energies),
    )


def _weighted(shares: NDArray[np.float64], weights: NDArray[np.float64]) -> float | None:
    total = float(weights.sum())
    return rounding.share(float(shares @ weights) / total) if total > 0 else None


def mean_db(levels_db: Iterable[float | None]) -> float | None:
    """Return the energy mean of levels; None if there are none."""
    known = [10 ** (level_db / 10) for level_db in levels_db if level_db is not None]
    return rounding.level(10 * math.log10(sum(known) / len(known))) if known else None


def _by_hour(
    edges_s: NDArray[np.float64], recorded: Sequence[RecordedInterval]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return energy and recorded seconds between each two edges."""
    table = np.array(recorded, dtype=np.float64).reshape(-1, len(RecordedInterval._fields))
    # Those of the days around it would take most of the memory.
    table = table[(table[:, 1] > edges_s[0]) & (table[:, 0] < edges_s[-1])]
    begins, ends, mean_squares = table[:, 0, None], table[:, 1, None], table[:, 2]
    inside = np.minimum(ends, edges_s[1:]) - np.maximum(begins, edges_s[:-1])
    inside = np.maximum(inside, 0.0)
    return mean_squares @ inside, inside.sum(axis=0)


def _covered_s(
    edges_s: NDArray[np.float64], recorded: Sequence[RecordedInterval]
) -> NDArray[np.float64]:
    """Return the seconds with at least one recording between each two edges."""
    merged: list[RecordedInterval] = []
    for each in sorted(recorded):
        if merged and each.begin_s <= merged[-1].end_s:
            merged[-1] = merged[-1]._replace(end_s=max(merged[-1].end_s, each.end_s))
        else:
            merged.append(each)
    return _by_hour(edges_s, merged)[1]


def _mean(energies: NDArray[np.float64], seconds: NDArray[np.float64]) -> float | None:
    """Return the mean square of some hours; None if nothing is recorded."""
    recorded_s = float(seconds.sum())
    return float(energies.sum()) / recorded_s if recorded_s > 0 else None


def _rounded(mean_square: float | None) -> float | None:
    level_db = None if mean_square is None else to_db(mean_square)
    return rounding.level(level_db)


def _lden(*periods: float | None) -> float | None:
    """Return Lden from the mean squares of three periods; None unless each was recorded."""
    levels_db = [None if each is None else to_db(each) for each in periods]
    if None in periods or not any(level_db is not None for level_db in levels_db):
        return None
    # A silent period adds nothing.
    heard = (-math.inf if level_db is None else level_db for level_db in levels_db)
    return rounding.level(lden_db(*heard))
