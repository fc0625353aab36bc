"""``clamor demo``: process one recording, and show a table and a picture.

The only command that imports from ``actors.science``, to make a recording and to draw.
"""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
import soundfile
from rich.console import Console

from actors.science import synth
from actors.science.plotting import plots
from actors.science.types import Event
from db import typed
from services.cli.actions import processing
from services.http.errors import UserError
from services.processes import own_service


def run(*, file: Path | None, out: Path, home: Path) -> int:
    """Process ``file``, or a synthetic recording; return the exit code."""
    console = Console(file=sys.stderr)
    if file is not None and not file.is_file():
        raise UserError(f"{file}: no such file")
    out.mkdir(parents=True, exist_ok=True)
    if file is None:
        file = out / "demo.flac"
        _make_recording(file, console)
    console.print("Starting Postgres, the workers and the API in one process ...")
    with own_service.running(home=home, log=home / "up.log") as client:
        [result] = processing.process(client, [file], bars=console)
    if result.error is not None:
        console.print(f"{file}: {result.error}", style="red", markup=False)
        return 1
    processing.print_table(result)
    picture = out / f"{file.stem}.png"
    _draw(result, file, picture)
    console.print(f"Picture: {picture}", markup=False)
    return 0


def _make_recording(file: Path, console: Console) -> None:
    samples, truth = synth.demo_recording()
    soundfile.write(file, samples, synth.DEMO_RATE_HZ, subtype="PCM_16")
    console.print("This recording is synthetic: Clamor has just made it, with these sounds:")
    for event in truth:
        console.print(f"  {event.noise_type:<15} {event.start_s:5.1f} s to {event.end_s:5.1f} s")


def _draw(result: processing.FileResult, file: Path, picture: Path) -> None:
    events = [typed.convert(msgspec.to_builtins(item), Event) for item in result.detections]
    with file.open("rb") as audio:
        picture.write_bytes(plots.draw(audio, events, title=file.name))
