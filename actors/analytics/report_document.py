"""The parts of a daily report, as stored and served; docs/analytics.md documents each of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypedDict

from actors.science.summaries.local_day import DaySound

#: The names of the levels of a day.
LevelName = Literal["laeq_db", "lday_db", "levening_db", "lnight_db", "lden_db"]
LEVELS: tuple[LevelName, ...] = ("laeq_db", "lday_db", "levening_db", "lnight_db", "lden_db")

#: The levels of a day by name, by the reference of the levels.
LevelsByReference = Mapping[str, Mapping[LevelName, float | None]]


class SessionCounts(TypedDict):
    """The sessions of the day."""

    total: int
    by_state: dict[str, int]
    without_recorded_at: int


class ReportHour(TypedDict):
    """An hour of the day, and the number of detections in it."""

    label: str
    begin: str
    length_s: float
    detections: int


class BusyHour(TypedDict):
    """One of the hours with the most detections."""

    label: str
    detections: int


class HourlyEvents(TypedDict):
    """The detections of a noise type or a group: number, seconds, and number in each hour."""

    events: int
    total_s: float
    by_hour: list[int]


class TypeEvents(HourlyEvents):
    """The detections of a noise type."""

    group: str | None


class Detections(TypedDict):
    """The detections of the day, the most frequent types and groups first."""

    total: int
    by_type: dict[str, TypeEvents]
    by_group: dict[str, HourlyEvents]


class ReferencedSound(DaySound):
    """The sound of the day, by recordings with one reference of their levels."""

    level_reference: str


class ReportedProblem(TypedDict):
    """A problem of sessions of the day."""

    code: str
    sessions: int


class ReportedLatency(TypedDict):
    """The latency of the sessions of the day."""

    sessions: int
    p50_s: float | None
    p95_s: float | None
    times_real_time_p50: float | None


class ReportedUsage(TypedDict):
    """The requests of one key on the day."""

    key_id: str | None
    name: str | None
    requests: int
    errors: int
    bytes_in: int
    bytes_out: int


class EarlierDay(TypedDict):
    """The main figures of a day before."""

    day: str
    sessions: int
    audio_hours: float
    detections: int
    levels: LevelsByReference


class MeanOfDays(TypedDict):
    """The means of the main figures over some days before."""

    days: int
    sessions: float
    audio_hours: float
    detections: float
    levels: LevelsByReference


class Compared(TypedDict):
    """The main figures of earlier days."""

    week_ago: EarlierDay | None
    mean_of_days_before: MeanOfDays | None


class ReportDocument(TypedDict):
    """A daily report."""

    version: int
    day: str
    time_zone: str
    starts_at: str
    ends_at: str
    sessions: SessionCounts
    audio_hours: float
    hours: list[ReportHour]
    busiest_hours: list[BusyHour]
    detections: Detections
    sound: list[ReferencedSound]
    problems: list[ReportedProblem]
    latency: ReportedLatency
    api_usage: list[ReportedUsage]
    compared: Compared
