"""``clamor process``: send files, show a bar for each, and print their detections."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, TaskID, TextColumn
from rich.table import Table

from actors.facts.channel_rules import ENERGY_MEAN
from services.cli.actions.bars import Bars
from services.client import ApiError, Client, Options
from services.client.wire.detections import Detection
from services.client.wire.sessions import Session, Summary

#: Files in flight at once, so that one uploads while others are being processed.
FILES_AT_ONCE = 4
#: The upload's share of a file's bar, in percent.
UPLOAD_PERCENT = 10


@dataclass
class FileResult:
    """The result of one file."""

    file: str
    session: Session | None = None
    detections: list[Detection] = field(default_factory=list)
    #: Why processing failed; None if it succeeded.
    error: str | None = None

    def to_json(self) -> dict[str, object]:
        """Return the file's entry in the ``--json`` output."""
        entry: dict[str, object] = {
            "file": self.file,
            "session": msgspec.to_builtins(self.session),
            "detections": msgspec.to_builtins(self.detections),
        }
        return entry if self.error is None else entry | {"error": self.error}


def parameters(
    args: argparse.Namespace, *, calibration_db: float | None
) -> dict[str, str | list[str]]:
    """Return the upload parameters for the arguments of a command."""
    asked: dict[str, str | list[str]] = {"priority": args.priority}
    if calibration_db is not None:
        asked["calibration_db"] = f"{calibration_db}"
    if args.channel != ENERGY_MEAN:
        asked["channel"] = args.channel
    if args.bands is not None:
        asked["bands"] = args.bands
    if args.model is not None:
        asked["model"] = str(args.model)
    if args.thresholds:
        asked["threshold"] = args.thresholds
    if args.types:
        asked["types"] = args.types
    if args.privacy != "keep":
        asked["privacy"] = args.privacy
    if args.noise_floor_db is not None:
        asked["noise_floor_db"] = f"{args.noise_floor_db}"
    if args.time_zone is not None:
        asked["time_zone"] = args.time_zone
    if args.metadata:
        asked["metadata"] = json.dumps(dict(args.metadata))
    return asked


def calibrate(client: Client, file: Path, *, tone_db: float, channel: str, bars: Console) -> float:
    """Send a calibrator's recording, and return the calibration of its channel in dB.

    Raises
    ------
    ApiError
        If the file cannot be read or sent, or is not a calibrator's recording.
    """
    options = {"calibration_tone_db": f"{tone_db:g}", "channel": channel}
    [result] = process(client, [file], options=options, bars=bars)
    if result.error is not None:
        raise ApiError(f"{file}: {result.error}")
    assert result.session is not None
    assert result.session.calibration_db is not None
    bars.print(f"{file}: 0 dBFS is {result.session.calibration_db:.2f} dB SPL", markup=False)
    return result.session.calibration_db


def process(
    client: Client,
    files: Sequence[Path],
    *,
    options: Options | None = None,
    bars: Console,
) -> list[FileResult]:
    """Send every file and wait for its result; a bad file does not stop the others.

    ``options`` are parameters of each upload.
    """
    with (
        Bars(bars, TextColumn("{task.fields[pace]}", markup=False)) as progress,
        ThreadPoolExecutor(FILES_AT_ONCE) as pool,
    ):
        tasks = [
            progress.add_task(file.name, total=100, stage="waiting", pace="") for file in files
        ]
        return list(
            pool.map(
                lambda file, bar: _process_one(client, file, options or {}, progress, bar),
                files,
                tasks,
            )
        )


def _process_one(
    client: Client, file: Path, options: Options, progress: Progress, bar: TaskID
) -> FileResult:
    result = FileResult(file=str(file))

    def show(session: Session) -> None:
        percent = UPLOAD_PERCENT + session.percent * (100 - UPLOAD_PERCENT) / 100
        progress.update(bar, completed=percent, stage=session.stage, pace=pace(session))

    try:
        share = UPLOAD_PERCENT / max(file.stat().st_size, 1)
        progress.update(bar, stage="uploading")
        session = client.upload(
            file,
            options=options,
            on_bytes=lambda n_bytes: progress.advance(bar, n_bytes * share),
        )
        result.session = client.wait(session, on_change=show)
        show(result.session)
        result.detections = client.detections(session.id, third_octaves=session.bands is not None)
        if result.session.state not in ("completed", "partial"):
            problem = result.session.problem
            result.error = problem.detail if problem else f"the session is {result.session.state}"
    except ApiError as error:
        result.error = str(error)
    except OSError as error:
        result.error = error.strerror or "the file cannot be read"
    if result.error is not None:
        progress.update(bar, stage="failed", pace="")
    return result


def pace(session: Session) -> str:
    """Return a session's speed and remaining time, for the end of its bar."""
    told = []
    if session.speed is not None:
        told.append(f"{session.speed:.0f}x" if session.speed >= 10 else f"{session.speed:.1f}x")
    if session.time_left_s is not None:
        told.append(f"{_whole_clock(session.time_left_s)} left")
    return ", ".join(told)


def print_table(result: FileResult) -> None:
    """Show one file's events, and what is known of its recording."""
    console = Console()
    session = result.session
    assert session is not None
    summary = session.summary
    reference = summary.level_reference if summary else ""
    console.print(_events(result, reference))
    if session.recorded_at is not None and session.recorded_at_source is not None:
        source = session.recorded_at_source
        console.print(
            f"recorded at {session.recorded_at:%Y-%m-%d %H:%M:%S}Z"
            f" (from: {source.origin}, zone: {source.zone})",
            markup=False,
        )
    laeq_db = summary.laeq_db if summary else None
    console.print(
        f"{len(result.detections)} events in {session.duration_s or 0:.1f} s; "
        f"whole recording LAeq {_level(laeq_db)} {reference}"
    )
    if summary is not None:
        _print_summary(console, session, summary)
    if session.problem is not None:
        kind = "note" if session.state == "completed" else "incomplete"
        console.print(f"{kind}: {session.problem.detail}", style="yellow", markup=False)
        for part in session.problem.missing:
            console.print(
                f"  {_clock(part.start_s)} to {_clock(part.end_s)}: {part.reason}", markup=False
            )


def _events(result: FileResult, reference: str) -> Table:
    """Return the table of a file's events; ``reference`` is that of their levels."""
    table = Table(title=escape(result.file), title_justify="left", title_style="bold")
    for heading, justify in (
        ("start", "right"),
        ("end", "right"),
        ("noise type", "left"),
        ("confidence", "right"),
        (f"LAeq {reference}", "right"),
        (f"LAFmax {reference}", "right"),
    ):
        table.add_column(heading, justify="right" if justify == "right" else "left")
    for event in result.detections:
        table.add_row(
            _clock(event.start_s),
            _clock(event.end_s),
            escape(event.noise_type),
            f"{event.confidence:.0%}",
            _level(event.laeq_db),
            _level(event.lafmax_db),
        )
    return table


def _print_summary(console: Console, session: Session, summary: Summary) -> None:
    """Show the channels, the reasons why levels are bounds, and the model."""
    if (line := _of_channels(session)) is not None:
        console.print(line, markup=False)
    for line in _bounds(summary):
        console.print(line, style="yellow", markup=False)
    console.print(_named_by(summary.model), markup=False)
    if summary.unused_types:
        console.print(
            f"not detected: {', '.join(summary.unused_types)}; the model's own types need "
            "its backbone: run `clamor model fetch` and restart the workers",
            style="yellow",
            markup=False,
        )


def _bounds(summary: Summary) -> Iterator[str]:
    """Yield a line for each reason why levels are bounds."""
    overload, under_range = summary.overload, summary.under_range
    if overload is not None and overload.first_s is not None:
        yield (
            f"overloaded for {overload.overloaded_s:.2f} s, first at {_clock(overload.first_s)}: "
            "levels are lower bounds; record with less gain"
        )
    if under_range is not None and under_range.under_range_s > 0:
        names = ", ".join(under_range.upper_bounds) or "none of the whole recording"
        yield (
            f"{under_range.share:.0%} of the time is below {under_range.limit_db:.1f} dB, where "
            f"the instrument's noise raises levels; upper bounds: {names}"
        )


def _of_channels(session: Session) -> str | None:
    """Return a line about the channels; None if all are used and live."""
    found = session.summary.channels if session.summary else None
    if found is None:
        return None
    states = {"silent": found.silent, "identical": found.identical, "inverted": found.inverted}
    if len(found.used) == session.n_channels and not any(states.values()):
        return None
    parts = [
        f"{', '.join(map(str, channels))} {state}"
        for state, channels in ({"used": found.used} | states).items()
        if channels
    ]
    return f"channels: {'; '.join(parts)}"


def _named_by(model: Mapping[str, str | None]) -> str:
    backbone = model.get("backbone")
    beside = f"with the backbone {backbone}" if backbone else "without a backbone"
    remedy = "" if backbone else "; `clamor model fetch` installs one for everyday noise"
    return f"classified by {model['name']} {model['version']}, {beside}{remedy}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours}:{minutes:02d}:{rest:05.2f}" if hours else f"{minutes}:{rest:05.2f}"


def _whole_clock(seconds: float) -> str:
    """Return a remaining time in whole seconds, rounded up."""
    minutes, rest = divmod(math.ceil(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _level(level_db: float | None) -> str:
    return "silent" if level_db is None else f"{level_db:.1f}"
