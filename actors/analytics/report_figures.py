"""The figures of a daily report: queried from the database and summed up."""

from __future__ import annotations

import uuid
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row
from sqlalchemy.orm import Session

from actors.facts import rounding
from actors.facts.noise_types import group_of
from actors.science.summaries import local_day
from actors.science.summaries.local_day import Day, Stretch
from db.queries import report_queries, request_queries
from db.tables.sessions import level_reference

#: The version of the report's format, for its readers.
VERSION = 1
#: How many of the busiest hours are listed.
BUSIEST = 3
LEVELS = ("laeq_db", "lday_db", "levening_db", "lnight_db", "lden_db")


@dataclass(frozen=True, kw_only=True)
class Found:
    """The rows of a report. ``at`` counts from 1 for the first of the days before."""

    sessions: Sequence[Row[Any]]
    events: Sequence[Row[Any]]
    levels: Sequence[Row[Any]]
    problems: Sequence[Row[Any]]
    latency: Row[Any]
    usage: Sequence[Row[Any]]


def ask(db: Session, user_id: uuid.UUID | None, whole: Day, before: Sequence[Day]) -> Found:
    """Query the rows of the day and of the adjacent days before it."""
    begin_s, end_s = whole.begin.timestamp(), whole.end.timestamp()
    earlier_s = [each.begin.timestamp() for each in before]
    within = {"begin_s": begin_s, "end_s": end_s}
    first_s = min([*earlier_s, begin_s])
    return Found(
        sessions=report_queries.sessions_by_state(db, user_id, [*earlier_s, begin_s, end_s]),
        events=report_queries.events_by_type(db, user_id, [*earlier_s, *whole.edges_s.tolist()]),
        levels=report_queries.levels_of(db, user_id, begin_s=first_s, end_s=end_s),
        problems=report_queries.problems(db, user_id, **within),
        latency=report_queries.latency(db, user_id, **within),
        usage=request_queries.usage_of_keys(db, user_id, since=whole.begin, until=whole.end),
    )


def document(found: Found, whole: Day, before: Sequence[Day]) -> dict[str, Any]:
    """Return the report as plain data. docs/analytics.md documents each part."""
    recorded = _stretches(found.levels)
    sounds = {reference: local_day.sound(whole, each) for reference, each in recorded.items()}
    today = [row for row in found.sessions if row.at == len(before) + 1]
    events = _events(found.events, n_before=len(before), n_hours=len(whole.hours))
    by_hour = [sum(of_type["by_hour"][at] for of_type in events.values())
               for at in range(len(whole.hours))]  # fmt: skip
    return {
        "version": VERSION,
        "day": whole.date.isoformat(),
        "time_zone": whole.zone,
        "starts_at": whole.begin.isoformat(),
        "ends_at": whole.end.isoformat(),
        "sessions": {
            "total": sum(row.sessions for row in today),
            "by_state": {row.state: row.sessions for row in sorted(today, key=lambda r: r.state)},
            "without_recorded_at": sum(row.without_time for row in today),
        },
        "audio_hours": _hours(today),
        "hours": [
            {
                "label": hour.label,
                "begin": hour.begin.isoformat(),
                "length_s": (hour.end - hour.begin).total_seconds(),
                "detections": by_hour[at],
            }
            for at, hour in enumerate(whole.hours)
        ],
        "busiest_hours": _busiest(whole, by_hour),
        "detections": {
            "total": sum(by_hour),
            "by_type": events,
            "by_group": _groups(events),
        },
        "sound": [
            {"level_reference": reference, **sound} for reference, sound in sorted(sounds.items())
        ],
        "problems": [{"code": row.code, "sessions": row.sessions} for row in found.problems],
        "latency": {
            name: value if name == "sessions" or value is None else round(value, 2)
            for name, value in found.latency._mapping.items()
        },
        "api_usage": [_usage(row) for row in found.usage],
        "compared": _compared(found, before, recorded),
    }


def _stretches(rows: Iterable[Row[Any]]) -> dict[str, list[Stretch]]:
    """Return the recorded intervals by the reference of their levels."""
    found: defaultdict[str, list[Stretch]] = defaultdict(list)
    for row in rows:
        gain = 10 ** ((row.calibration_db or 0.0) / 10)
        quarters = row.quarter_mean_squares
        found[level_reference(row.calibration_db)] += local_day.stretches(
            row.begin_s,
            row.duration_s,
            None if quarters is None else [gain * each for each in quarters],
            # LAeq is already calibrated; digital silence has none.
            whole=0.0 if row.laeq_db is None else 10 ** (row.laeq_db / 10),
        )
    return dict(found)


def _events(rows: Iterable[Row[Any]], *, n_before: int, n_hours: int) -> dict[str, Any]:
    """Return the detections of the day by type, the most frequent first."""
    found: dict[str, Any] = {}
    for row in rows:
        hour = row.at - 1 - n_before
        if hour < 0:
            continue
        of_type = found.setdefault(
            row.noise_type,
            {
                "group": group_of(row.noise_type),
                "events": 0,
                "total_s": 0.0,
                "by_hour": [0] * n_hours,
            },
        )
        of_type["events"] += row.events
        of_type["total_s"] = rounding.seconds(of_type["total_s"] + row.total_s)
        of_type["by_hour"][hour] += row.events
    return _most_events_first(found)


def _groups(by_type: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Sum detections by group, the most frequent first; omit types without a group."""
    parts: defaultdict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for of_type in by_type.values():
        if of_type["group"] is not None:
            parts[of_type["group"]].append(of_type)
    found = {
        group: {
            "events": sum(each["events"] for each in some),
            "total_s": rounding.seconds(sum(each["total_s"] for each in some)),
            "by_hour": [
                sum(hour) for hour in zip(*(each["by_hour"] for each in some), strict=True)
            ],
        }
        for group, some in parts.items()
    }
    return _most_events_first(found)


def _most_events_first(figures: Mapping[str, Any]) -> dict[str, Any]:
    return dict(sorted(figures.items(), key=lambda each: (-each[1]["events"], each[0])))


def _busiest(whole: Day, by_hour: Sequence[int]) -> list[dict[str, Any]]:
    ranked = sorted(range(len(by_hour)), key=lambda at: (-by_hour[at], at))[:BUSIEST]
    return [
        {"label": whole.hours[at].label, "detections": by_hour[at]} for at in ranked if by_hour[at]
    ]


def _usage(row: Row[Any]) -> dict[str, Any]:
    return {
        "key_id": row.key_id,
        "name": row.name,
        "requests": row.requests,
        "errors": row.errors,
        "bytes_in": int(row.bytes_in),
        "bytes_out": int(row.bytes_out),
    }


def _hours(rows: Iterable[Row[Any]]) -> float:
    return round(sum(float(row.audio_s) for row in rows) / 3_600, 3)


def _compared(
    found: Found, before: Sequence[Day], recorded: dict[str, list[Stretch]]
) -> dict[str, Any]:
    """Return the same figures of a week ago, and their mean over the days before with activity."""
    events: Counter[int] = Counter()
    for row in found.events:
        events[row.at] += row.events
    figures = []
    for at, each in enumerate(before, 1):
        rows = [row for row in found.sessions if row.at == at]
        sounds = {reference: local_day.sound(each, some) for reference, some in recorded.items()}
        figures.append(
            {
                "day": each.date.isoformat(),
                "sessions": sum(row.sessions for row in rows),
                "audio_hours": _hours(rows),
                "detections": events[at],
                "levels": {
                    reference: {name: sound[name] for name in LEVELS}
                    for reference, sound in sorted(sounds.items())
                    if sound["covered"]["whole"] > 0
                },
            }
        )
    # A zone that skipped a day may have none.
    week_ago = figures[0] if len(figures) == 7 else None
    return {"week_ago": week_ago, "mean_of_days_before": _mean(figures)}


def _mean(figures: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    busy = [each for each in figures if each["sessions"] or each["levels"]]
    if not busy:
        return None
    references = sorted({reference for each in busy for reference in each["levels"]})
    return {
        "days": len(busy),
        **{
            name: round(sum(each[name] for each in busy) / len(busy), 3)
            for name in ("sessions", "audio_hours", "detections")
        },
        "levels": {
            reference: {
                name: local_day.mean_db(
                    each["levels"][reference][name] for each in busy if reference in each["levels"]
                )
                for name in LEVELS
            }
            for reference in references
        },
    }
