"""``clamor report``: the report of a day."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from db import typed
from services.cli.actions.bars import Bars
from services.client import Client
from services.client.wire.reports import Report
from services.http.errors import UserError


class _Sessions(msgspec.Struct):
    total: int


class _OfType(msgspec.Struct):
    events: int
    total_s: float


class _Detections(msgspec.Struct):
    total: int
    by_type: dict[str, _OfType]


class _Sound(msgspec.Struct):
    level_reference: str
    laeq_db: float | None
    lday_db: float | None
    levening_db: float | None
    lnight_db: float | None
    lden_db: float | None


_LEVELS = _Sound.__struct_fields__[1:]


class _Problems(msgspec.Struct):
    code: str
    sessions: int


class _Mean(msgspec.Struct):
    sessions: float
    audio_hours: float
    detections: float
    levels: dict[str, dict[str, float | None]]


class _Compared(msgspec.Struct):
    mean_of_days_before: _Mean | None


class _Contents(msgspec.Struct):
    """What is shown of a report; docs/analytics.md describes the rest."""

    day: str
    time_zone: str
    sessions: _Sessions
    audio_hours: float
    detections: _Detections
    sound: list[_Sound]
    problems: list[_Problems]
    compared: _Compared


def run(
    client: Client,
    day: date,
    *,
    time_zone: str,
    html: Path | None,
    all_users: bool,
    as_json: bool,
    bars: Console,
) -> int:
    """Request a report, show it, and return the exit code."""
    with Bars(bars) as progress:
        asked = client.report(day, time_zone=time_zone, all_users=all_users)
        task = progress.add_task("report", total=100, stage=asked.stage)

        def show(report: Report) -> None:
            progress.update(task, completed=report.percent, stage=report.stage)

        made = client.wait_for_report(asked, on_change=show)
    if made.problem is not None or made.report is None:
        told = made.problem.detail if made.problem else made.state
        bars.print(f"clamor: {told}", style="red", markup=False)
        return 1
    if html is not None:
        try:
            html.write_bytes(client.report_page(made.id))
        except OSError as error:
            raise UserError(f"{html}: {error.strerror or 'cannot be written'}") from None
    if as_json:
        print(msgspec.json.encode(made.report).decode())
    else:
        _print(typed.convert(made.report, _Contents), Console())
    bars.print(f"clamor: {_whose(made)}", markup=False)
    return 0


def _whose(made: Report) -> str:
    """Return which users a report covers, and how to include the others."""
    if made.user_id is None:
        return "this report covers the sessions of all users"
    return (
        "this report covers only the sessions of this key's user; --all-users covers all users "
        "and needs the key of an administrator"
    )


def _print(report: _Contents, out: Console) -> None:
    mean = report.compared.mean_of_days_before
    table = Table(
        "", "day", "mean of the days before", title=escape(f"{report.day}, {report.time_zone}")
    )
    for name, value, before in (
        ("sessions", report.sessions.total, mean and mean.sessions),
        ("audio hours", report.audio_hours, mean and mean.audio_hours),
        ("detections", report.detections.total, mean and mean.detections),
    ):
        table.add_row(name, f"{value:g}", "-" if before is None else f"{before:g}")
    for sound in report.sound:
        levels = mean.levels.get(sound.level_reference, {}) if mean else {}
        for name in _LEVELS:
            table.add_row(
                f"{name.removesuffix('_db')} ({sound.level_reference})",
                _level(getattr(sound, name)),
                _level(levels.get(name)),
            )
    out.print(table)
    if report.detections.by_type:
        heard = Table("noise type", "events", "seconds")
        for name, each in report.detections.by_type.items():
            heard.add_row(escape(name), str(each.events), f"{each.total_s:g}")
        out.print(heard)
    for problem in report.problems:
        out.print(f"{problem.sessions} x {problem.code}", markup=False)


def _level(level_db: float | None) -> str:
    return "-" if level_db is None else f"{level_db:.1f}"
