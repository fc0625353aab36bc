"""The figures of a daily report: queried from the database and summed up."""

from __future__ import annotations

import uuid
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from sqlalchemy.orm import Session

from actors.analytics.report_document import (
    LEVELS,
    BusyHour,
    Compared,
    Detections,
    EarlierDay,
    HourlyEvents,
    MeanOfDays,
    ReferencedSound,
    ReportDocument,
    ReportedLatency,
    ReportedProblem,
    ReportedUsage,
    ReportHour,
    SessionCounts,
    TypeEvents,
)
from actors.facts import rounding
from actors.facts.noise_types import group_of
from actors.science.summaries import local_day
from actors.science.summaries.local_day import Day, RecordedInterval
from db.queries import report_figure_queries, request_queries
from db.queries.report_figure_queries import (
    Latency,
    ProblemCount,
    RecordedLevels,
    StateCount,
    TypeCount,
)
from db.queries.request_queries import UsedKey
from db.tables.sessions import level_reference

SomeEvents = TypeVar("SomeEvents", bound=HourlyEvents)

#: The version of the report's format, for its readers.
VERSION = 1
#: How many of the busiest hours are listed.
BUSIEST = 3


@dataclass(frozen=True, kw_only=True)
class Found:
    """The rows of a report. ``at`` counts from 1 for the first of the days before."""

    sessions: Sequence[StateCount]
    events: Sequence[TypeCount]
    levels: Sequence[RecordedLevels]
    problems: Sequence[ProblemCount]
    latency: Latency
    usage: Sequence[UsedKey]


def ask(tx: Session, user_id: uuid.UUID | None, whole: Day, before: Sequence[Day]) -> Found:
    """Query the rows of the day and of the adjacent days before it."""
    begin_s, end_s = whole.begin.timestamp(), whole.end.timestamp()
    earlier_s = [each.begin.timestamp() for each in before]
    within = {"begin_s": begin_s, "end_s": end_s}
    first_s = min([*earlier_s, begin_s])
    return Found(
        sessions=report_figure_queries.sessions_by_state(tx, user_id, [*earlier_s, begin_s, end_s]),
        events=report_figure_queries.events_by_type(
            tx, user_id, [*earlier_s, *whole.edges_s.tolist()]
        ),
        levels=report_figure_queries.levels_of(tx, user_id, begin_s=first_s, end_s=end_s),
        problems=report_figure_queries.problems(tx, user_id, **within),
        latency=report_figure_queries.latency(tx, user_id, **within),
        usage=request_queries.usage_of_keys(tx, user_id, since=whole.begin, until=whole.end),
    )


def document(found: Found, whole: Day, before: Sequence[Day]) -> ReportDocument:
    """Return the report."""
    recorded = _recorded_intervals(found.levels)
    sounds = {reference: local_day.sound(whole, each) for reference, each in recorded.items()}
    today = [row for row in found.sessions if row.at == len(before) + 1]
    events = _events(found.events, n_before=len(before), n_hours=len(whole.hours))
    by_hour = [
        sum(of_type["by_hour"][at] for of_type in events.values()) for at in range(len(whole.hours))
    ]
    return ReportDocument(
        version=VERSION,
        day=whole.date.isoformat(),
        time_zone=whole.zone,
        starts_at=whole.begin.isoformat(),
        ends_at=whole.end.isoformat(),
        sessions=SessionCounts(
            total=sum(row.sessions for row in today),
            by_state={row.state: row.sessions for row in sorted(today, key=lambda r: r.state)},
            without_recorded_at=sum(row.without_time for row in today),
        ),
        audio_hours=_hours(today),
        hours=[
            ReportHour(
                label=hour.label,
                begin=hour.begin.isoformat(),
                length_s=(hour.end - hour.begin).total_seconds(),
                detections=by_hour[at],
            )
            for at, hour in enumerate(whole.hours)
        ],
        busiest_hours=_busiest(whole, by_hour),
        detections=Detections(total=sum(by_hour), by_type=events, by_group=_groups(events)),
        sound=[
            ReferencedSound(level_reference=reference, **sound)
            for reference, sound in sorted(sounds.items())
        ],
        problems=[ReportedProblem(code=row.code, sessions=row.sessions) for row in found.problems],
        latency=_latency(found.latency),
        api_usage=[_usage(row) for row in found.usage],
        compared=_compared(found, before, recorded),
    )


def _latency(row: Latency) -> ReportedLatency:
    return ReportedLatency(
        sessions=row.sessions,
        p50_s=_rounded(row.p50_s),
        p95_s=_rounded(row.p95_s),
        times_real_time_p50=_rounded(row.times_real_time_p50),
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)


def _recorded_intervals(rows: Iterable[RecordedLevels]) -> dict[str, list[RecordedInterval]]:
    """Return the recorded intervals by the reference of their levels."""
    found: defaultdict[str, list[RecordedInterval]] = defaultdict(list)
    for row in rows:
        gain = 10 ** ((row.calibration_db or 0.0) / 10)
        found[level_reference(row.calibration_db)] += local_day.recorded_intervals(
            row.begin_s,
            row.duration_s,
            [gain * each for each in row.quarter_mean_squares],
            overloads=_overloads(row),
            holes=[(hole["start_s"], hole["end_s"]) for hole in row.holes or ()],
        )
    return dict(found)


def _overloads(row: RecordedLevels) -> list[tuple[float, float]] | None:
    times, energies = row.quarter_overloads, row.quarter_overload_energies
    return None if times is None or energies is None else [*zip(times, energies, strict=True)]


def _events(rows: Iterable[TypeCount], *, n_before: int, n_hours: int) -> dict[str, TypeEvents]:
    """Return the detections of the day by type, the most frequent first."""
    found: dict[str, TypeEvents] = {}
    for row in rows:
        hour = row.at - 1 - n_before
        if hour < 0:
            continue
        of_type = found.setdefault(
            row.noise_type,
            TypeEvents(
                group=group_of(row.noise_type), events=0, total_s=0.0, by_hour=[0] * n_hours
            ),
        )
        of_type["events"] += row.events
        of_type["total_s"] = rounding.seconds(of_type["total_s"] + row.total_s)
        of_type["by_hour"][hour] += row.events
    return _most_events_first(found)


def _groups(by_type: Mapping[str, TypeEvents]) -> dict[str, HourlyEvents]:
    """Sum detections by group, the most frequent first; omit types without a group."""
    parts: defaultdict[str, list[TypeEvents]] = defaultdict(list)
    for of_type in by_type.values():
        if of_type["group"] is not None:
            parts[of_type["group"]].append(of_type)
    found = {
        group: HourlyEvents(
            events=sum(each["events"] for each in some),
            total_s=rounding.seconds(sum(each["total_s"] for each in some)),
            by_hour=[sum(hour) for hour in zip(*(each["by_hour"] for each in some), strict=True)],
        )
        for group, some in parts.items()
    }
    return _most_events_first(found)


def _most_events_first(figures: Mapping[str, SomeEvents]) -> dict[str, SomeEvents]:
    return dict(sorted(figures.items(), key=lambda each: (-each[1]["events"], each[0])))


def _busiest(whole: Day, by_hour: Sequence[int]) -> list[BusyHour]:
    ranked = sorted(range(len(by_hour)), key=lambda at: (-by_hour[at], at))[:BUSIEST]
    return [
        BusyHour(label=whole.hours[at].label, detections=by_hour[at])
        for at in ranked
        if by_hour[at]
    ]


def _usage(row: UsedKey) -> ReportedUsage:
    return ReportedUsage(
        key_id=row.key_id,
        name=row.name,
        requests=row.requests,
        errors=row.errors,
        bytes_in=int(row.bytes_in),
        bytes_out=int(row.bytes_out),
    )


def _hours(rows: Iterable[StateCount]) -> float:
    return round(sum(float(row.audio_s) for row in rows) / 3_600, 3)


def _compared(
    found: Found, before: Sequence[Day], recorded: dict[str, list[RecordedInterval]]
) -> Compared:
    """Return the same figures of a week ago, and their mean over the days before with activity."""
    events: Counter[int] = Counter()
    for row in found.events:
        events[row.at] += row.events
    figures = []
    for at, each in enumerate(before, 1):
        rows = [row for row in found.sessions if row.at == at]
        sounds = {reference: local_day.sound(each, some) for reference, some in recorded.items()}
        figures.append(
            EarlierDay(
                day=each.date.isoformat(),
                sessions=sum(row.sessions for row in rows),
                audio_hours=_hours(rows),
                detections=events[at],
                levels={
                    reference: {name: sound[name] for name in LEVELS}
                    for reference, sound in sorted(sounds.items())
                    if sound["covered"]["whole"] > 0
                },
            )
        )
    # A zone that skipped a day may have none.
    week_ago = figures[0] if len(figures) == 7 else None
    return Compared(week_ago=week_ago, mean_of_days_before=_mean(figures))


def _mean(figures: Sequence[EarlierDay]) -> MeanOfDays | None:
    busy = [each for each in figures if each["sessions"] or each["levels"]]
    if not busy:
        return None
    references = sorted({reference for each in busy for reference in each["levels"]})
    return MeanOfDays(
        days=len(busy),
        sessions=_mean_of([each["sessions"] for each in busy]),
        audio_hours=_mean_of([each["audio_hours"] for each in busy]),
        detections=_mean_of([each["detections"] for each in busy]),
        levels={
            reference: {
                name: local_day.mean_db(
                    each["levels"][reference][name] for each in busy if reference in each["levels"]
                )
                for name in LEVELS
            }
            for reference in references
        },
    )


def _mean_of(figures: Sequence[float]) -> float:
    return round(sum(figures) / len(figures), 3)
