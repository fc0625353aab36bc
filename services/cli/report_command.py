"""``clamor report``: the report of a day."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from services.api.reports import schemas as report_schemas
from services.cli.bars import Bars
from services.client import Client
from services.http.errors import UserError


def run(
    client: Client, day: date, *, time_zone: str, html: Path | None, all_users: bool,
    as_json: bool, bars: Console,
) -> int:  # fmt: skip
    """Request a report, show it, and return the exit code."""
    with Bars(bars) as progress:
        asked = client.report(day, time_zone=time_zone, all_users=all_users)
        task = progress.add_task("report", total=100, stage=asked.stage)

        def show(report: report_schemas.Report) -> None:
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
        _print(made.report, Console())
    bars.print(f"clamor: {_whose(made)}", markup=False)
    return 0


def _whose(made: report_schemas.Report) -> str:
    """Return which users a report covers, and how to include the others."""
    if made.user_id is None:
        return "this report covers the sessions of all users"
    return (
        "this report covers only the sessions of this key's user; --all-users covers all users "
        "and needs the key of an administrator"
    )


def _print(report: dict[str, Any], out: Console) -> None:
    mean = report["compared"]["mean_of_days_before"]
    table = Table("", "day", "mean of the days before",
                  title=escape(f"{report['day']}, {report['time_zone']}"))  # fmt: skip
    for name, value in (
        ("sessions", report["sessions"]["total"]),
        ("audio_hours", report["audio_hours"]),
        ("detections", report["detections"]["total"]),
    ):
        before = "-" if mean is None else f"{mean[name]:g}"
        table.add_row(name.replace("_", " "), f"{value:g}", before)
    for sound in report["sound"]:
        levels = (mean or {}).get("levels", {}).get(sound["level_reference"], {})
        for name in ("laeq_db", "lday_db", "levening_db", "lnight_db", "lden_db"):
            table.add_row(
                f"{name.removesuffix('_db')} ({sound['level_reference']})",
                _level(sound[name]),
                _level(levels.get(name)),
            )
    out.print(table)
    if report["detections"]["by_type"]:
        heard = Table("noise type", "events", "seconds")
        for name, each in report["detections"]["by_type"].items():
            heard.add_row(escape(name), str(each["events"]), f"{each['total_s']:g}")
        out.print(heard)
    for each in report["problems"]:
        out.print(f"{each['sessions']} x {each['code']}", markup=False)


def _level(level_db: float | None) -> str:
    return "-" if level_db is None else f"{level_db:.1f}"
