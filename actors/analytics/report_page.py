"""A daily report as a page: one HTML file without scripts that loads nothing.

Names of recordings and keys are user input: every text is escaped, and the page's content security
policy allows only its own style and pictures.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from html import escape
from typing import Literal

from actors.analytics.report_document import (
    LEVELS,
    EarlierDay,
    LevelName,
    MeanOfDays,
    ReportDocument,
)
from actors.science.plotting import day_plots
from actors.science.summaries.local_day import PERIODS, DayOverload

STYLE = """
body { margin: 0 auto; max-width: 60rem; padding: 1rem; background: #fff; color: #1c1c1c;
  font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: .5rem 0; }
h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
p { margin: .5rem 0; }
.quiet { color: #555; font-size: .9rem; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(8.5rem, 1fr)); gap: .75rem;
  margin: 1rem 0; padding: 0; list-style: none; }
.figures li { border: 1px solid #d8d8d8; border-radius: .5rem; padding: .5rem .75rem; }
.figures b { display: block; font-size: 1.35rem; font-variant-numeric: tabular-nums; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; }
th, td { text-align: left; padding: .3rem .6rem .3rem 0; border-bottom: 1px solid #e4e4e4;
  overflow-wrap: anywhere; }
th { font-weight: 600; overflow-wrap: normal; }
td:first-child { min-width: 7rem; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
td.n, .one { white-space: nowrap; }
img { display: block; width: 100%; height: auto; }
"""
_STYLE_SHA256 = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
POLICY = f"default-src 'none'; img-src data:; style-src 'sha256-{_STYLE_SHA256}'"

_NAMES: dict[LevelName, str] = {
    "laeq_db": "LAeq, whole day",
    "lday_db": "Lday, 07 to 19",
    "levening_db": "Levening, 19 to 23",
    "lnight_db": "Lnight, 23 to 07",
    "lden_db": "Lden",
}
_COVERED: dict[LevelName, str] = {
    "laeq_db": "whole",
    "lday_db": "day",
    "levening_db": "evening",
    "lnight_db": "night",
    "lden_db": "whole",
}


def page(report: ReportDocument, *, everybody: bool) -> bytes:
    """Return the page of a report. ``everybody``: it covers all users' sessions."""
    title = f"Noise report of {report['day']}"
    whose = "all users" if everybody else "one user"
    parts = [
        f"<h1>Noise report of <span class=one>{escape(report['day'])}</span></h1>",
        f"<p class=quiet>{escape(report['time_zone'])}, {_hours_long(report)} hours; "
        f"sessions of {whose}.</p>",
        _figures(report),
        _sound(report),
        _heard(report),
        _sessions(report),
        _usage(report),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(POLICY)}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body><main>\n"
        + "\n".join(parts)
        + "\n</main></body></html>\n"
    ).encode()


def _hours_long(report: ReportDocument) -> str:
    return f"{sum(hour['length_s'] for hour in report['hours']) / 3_600:g}"


def _figures(report: ReportDocument) -> str:
    """Return the main figures, each beside the mean of the days before."""
    mean = report["compared"]["mean_of_days_before"]
    week_ago = report["compared"]["week_ago"]
    found: list[tuple[str | None, ...]] = []
    counted: tuple[tuple[Literal["sessions", "audio_hours", "detections"], float], ...] = (
        ("sessions", report["sessions"]["total"]),
        ("audio_hours", report["audio_hours"]),
        ("detections", report["detections"]["total"]),
    )
    for count, value in counted:
        old = [None if each is None else _number(each[count]) for each in (mean, week_ago)]
        found.append((count.replace("_", " "), _number(value), *old))
    for sound in report["sound"]:
        if sound["covered"]["whole"] == 0:
            continue
        name: LevelName = "lden_db" if sound["lden_db"] is not None else "laeq_db"
        reference = sound["level_reference"]
        title = f"{_NAMES[name].partition(',')[0]} in {reference}"
        old = [_before(each, reference, name) for each in (mean, week_ago)]
        found.append((title, _level(sound[name]), *old))
    items = "".join(
        "<li>{}<b>{}</b><span class=quiet>mean {}<br>a week ago {}</span></li>".format(
            *(escape(each or "-") for each in figures)
        )
        for figures in found
    )
    days = 0 if mean is None else mean["days"]
    return (
        f"<ul class=figures>{items}</ul><p class=quiet>Below each figure: the mean of the {days} "
        f"days with sessions among the 7 before, and the value a week ago.</p>"
    )


def _before(figures: EarlierDay | MeanOfDays | None, reference: str, name: LevelName) -> str | None:
    levels = None if figures is None else figures["levels"].get(reference)
    return None if levels is None or levels[name] is None else _level(levels[name])


def _sound(report: ReportDocument) -> str:
    found = ["<h2>Sound</h2>"]
    for sound in report["sound"]:
        reference = sound["level_reference"]
        if sound["covered"]["whole"] == 0:
            continue
        rows = [
            (_NAMES[name], _level(sound[name]), f"{sound['covered'][_COVERED[name]]:.1%}")
            for name in LEVELS
        ]
        found.append(_table(("level", f"in {reference}", "share of it recorded"), rows, n_text=1))
        found.append(_overload(sound["overload"]))
        levels = [hour["laeq_db"] for hour in sound["hours"]]
        labels = [hour["label"] for hour in report["hours"]]
        found.append(
            _picture(
                partial(
                    day_plots.draw_levels,
                    levels,
                    labels,
                    [_period(label) for label in labels],
                    unit=reference,
                ),
                f"Level of each hour in {reference}; the table below has the figures.",
            )
        )
    if len(found) == 1:
        found.append(
            "<p>No recording of this day has both a known time of recording and levels.</p>"
        )
    without = report["sessions"]["without_recorded_at"]
    if without:
        found.append(
            f"<p class=quiet>{without} of the sessions have no time of recording: these "
            "levels exclude them.</p>"
        )
    return "".join(found)


def _overload(overload: DayOverload) -> str:
    """Return a sentence about the overloaded part of the day; nothing if it was not measured."""
    overloaded_s, energy_share = overload["overloaded_s"], overload["energy_share"]
    if overloaded_s is None:
        return ""
    if overloaded_s == 0:
        return "<p class=quiet>No recording is overloaded.</p>"
    energy = "" if energy_share is None else f", with {energy_share:.1%} of the sound energy"
    return (
        f"<p>Overload: {overloaded_s:,.1f} s, {overload['share']:.2%} of the recorded time"
        f"{energy}. These levels are lower bounds.</p>"
    )


def _period(label: str) -> str:
    hour = int(label[:2])
    return next(
        name
        for name, parts in PERIODS.items()
        if any(first <= hour < last for first, last in parts)
    )


def _heard(report: ReportDocument) -> str:
    by_type, labels = report["detections"]["by_type"], [each["label"] for each in report["hours"]]
    found = ["<h2>What was heard</h2>"]
    if not by_type:
        return found[0] + "<p>Nothing.</p>"
    busiest = ", ".join(
        f"{each['label']} ({each['detections']})" for each in report["busiest_hours"]
    )
    found.append(f"<p>Busiest hours: {escape(busiest)}.</p>")
    found.append(
        _picture(
            partial(
                day_plots.draw_events,
                {name: each["by_hour"] for name, each in by_type.items()},
                labels,
            ),
            "Events of each hour by noise type; the tables below have the figures.",
        )
    )
    found.append(
        _table(
            ("noise type", "events", "seconds"),
            [
                (name.replace("_", " "), f"{each['events']:,}", f"{each['total_s']:,.1f}")
                for name, each in by_type.items()
            ],
            n_text=1,
        )
    )
    sounds = [each for each in report["sound"] if each["covered"]["whole"] > 0]
    rows = [
        (
            hour["label"],
            f"{hour['detections']:,}",
            *(_level(sound["hours"][at]["laeq_db"]) for sound in sounds),
        )
        for at, hour in enumerate(report["hours"])
    ]
    heads = ("hour", "events", *(f"LAeq in {each['level_reference']}" for each in sounds))
    found.append("<h2>Hour by hour</h2>" + _table(heads, rows, n_text=1))
    return "".join(found)


def _sessions(report: ReportDocument) -> str:
    found = ["<h2>Sessions</h2>"]
    states = report["sessions"]["by_state"]
    found.append(
        _table(("state", "sessions"), [(name, f"{n:,}") for name, n in states.items()], n_text=1)
        if states
        else "<p>None.</p>"
    )
    latency = report["latency"]
    if latency["sessions"]:
        speed = latency["times_real_time_p50"]
        found.append(
            f"<p>Time from upload to answer: median {latency['p50_s']:,.1f} s,"
            f" 95th percentile {latency['p95_s']:,.1f} s"
            + (f"; median speed: {speed:,.1f} times real time" if speed else "")
            + ".</p>"
        )
    if report["problems"]:
        rows = [(each["code"] or "", f"{each['sessions']:,}") for each in report["problems"]]
        found.append("<h2>Problems</h2>" + _table(("problem", "sessions"), rows, n_text=1))
    return "".join(found)


def _usage(report: ReportDocument) -> str:
    if not report["api_usage"]:
        return "<h2>Requests</h2><p>None.</p>"
    rows = [
        (
            each["name"] or each["key_id"] or "no key",
            f"{each['requests']:,}",
            f"{each['errors']:,}",
            f"{each['bytes_in'] / 1e6:,.1f}",
            f"{each['bytes_out'] / 1e6:,.1f}",
        )
        for each in report["api_usage"]
    ]
    heads = ("key", "requests", "errors", "MB in", "MB out")
    return "<h2>Requests</h2>" + _table(heads, rows, n_text=1)


def _table(heads: Iterable[str], rows: Iterable[Sequence[str]], *, n_text: int) -> str:
    """Return a table whose first ``n_text`` columns are text and the others numbers."""

    def line(tag: str, cells: Iterable[str]) -> str:
        return (
            "<tr>"
            + "".join(
                f"<{tag}{' class=n' if at >= n_text else ''}>{escape(cell)}</{tag}>"
                for at, cell in enumerate(cells)
            )
            + "</tr>"
        )

    heads = list(heads)
    body = "".join(line("td", row) for row in rows)
    # Focusable, so that an overflowing table can be scrolled by keyboard too.
    place = f'<div class=scroll role=group tabindex=0 aria-label="{escape(heads[0])}">'
    return f"{place}<table>{line('th', heads)}{body}</table></div>"


def _picture(draw: Callable[..., bytes], text: str) -> str:
    """Return a picture for wide and one for narrow screens, of which a browser shows one."""
    wide, narrow = (
        "data:image/png;base64," + base64.b64encode(draw(size_in=day_plots.SIZES_IN[name])).decode()
        for name in ("wide", "narrow")
    )
    return (
        f'<picture><source media="(max-width: 640px)" srcset="{narrow}">'
        f'<img src="{wide}" alt="{escape(text)}"></picture>'
    )


def _number(value: float) -> str:
    """Format a count, or a mean of counts."""
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:,.1f}"


def _level(level_db: float | None) -> str:
    return "-" if level_db is None else f"{level_db:.1f}"
