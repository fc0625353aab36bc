"""Time one clip from upload to completion, with and without the backbone: `make bench-clip`.

Two standalone services run side by side, one of them with the backbone. A clip is posted to each in
turns, so that other load slows both equally. Prints the time until the session has finished, by the
server's clock, and the CPU time of the whole service.
"""

from __future__ import annotations

import argparse
import io
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import soundfile
from rich.console import Console
from rich.table import Table

from actors.outbound import backbones
from services.client import Client
from tests.benchmarks import scene
from tests.support.standalone import Up, up

#: Seconds between two polls of a session; they are not part of the figures.
LOOK_S = 0.05
#: The first posts load the model and the weights, and do not count.
WARM_UP = 2


@dataclass
class Service:
    """A standalone service, with the times and CPU times of its sessions in seconds."""

    name: str
    up: Up
    client: Client
    took_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)

    def process(self, clip: Path) -> None:
        """Post a clip and wait until it has finished."""
        before_s = _cpu_s(self.up)
        session = self.client.upload(clip)
        while not session.finished:
            time.sleep(LOOK_S)
            session = self.client.session(session.id)
        assert session.state == "completed", session.problem
        assert session.finished_at is not None
        self.took_s.append((session.finished_at - session.created_at).total_seconds())
        self.cpu_s.append(_cpu_s(self.up) - before_s)


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench-clip", description=__doc__)
    parser.add_argument("--backbone", type=Path, required=True, help="weights of the backbone")
    parser.add_argument("--data", type=Path, help="folder with everyday/ and backgrounds/")
    parser.add_argument("--seconds", type=float, default=10.0, help="of the clip (%(default)s)")
    parser.add_argument("--runs", type=int, default=15, help="posts to each (%(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        # Root's embedded Postgres runs as another user, who must be able to pass through.
        folder.chmod(0o755)
        clip = folder / "clip.flac"
        clip.write_bytes(_clip(options.data, seconds=options.seconds))
        weights = folder / "models" / backbones.PUBLISHED.kept_name
        weights.parent.mkdir()
        weights.write_bytes(options.backbone.read_bytes())
        services = [
            _start(stack, folder, "without the backbone", CLAMOR_BACKBONE_URL="off"),
            _start(stack, folder, "with the backbone", CLAMOR_BACKBONE_URL="", CLAMOR_HOME=name),
        ]
        for run in range(WARM_UP + options.runs):
            for service in services if run % 2 else reversed(services):
                service.process(clip)
    _show(services, seconds=options.seconds, runs=options.runs)
    return 0


def _start(stack: ExitStack, folder: Path, name: str, **variables: str) -> Service:
    service = stack.enter_context(up(folder / name.partition(" ")[0], **variables))
    service.listen()
    return Service(name, service, stack.enter_context(service.client()))


def _show(services: list[Service], *, seconds: float, runs: int) -> None:
    table = Table(title=f"a clip of {seconds:g} s, median of {runs} in turns")
    for heading in ("", "upload to completed", "CPU time"):
        table.add_column(heading, justify="right" if heading else "left")
    for each in services:
        took_s, cpu_s = (
            statistics.median(figures[WARM_UP:]) for figures in (each.took_s, each.cpu_s)
        )
        table.add_row(each.name, f"{1e3 * took_s:.0f} ms", f"{1e3 * cpu_s:.0f} ms")
    without, beside = services
    pairs = zip(beside.took_s[WARM_UP:], without.took_s[WARM_UP:], strict=True)
    ratio = statistics.median(slow / fast for slow, fast in pairs)
    console = Console()
    console.print(table)
    console.print(f"with the backbone it takes {ratio:.2f} times as long (median of the pairs)")


def _clip(data: Path | None, *, seconds: float) -> bytes:
    content, _ = scene.recording(data)
    samples, rate_hz = soundfile.read(io.BytesIO(content), dtype="float32")
    file = io.BytesIO()
    soundfile.write(file, samples[: round(seconds * rate_hz)], rate_hz, format="FLAC")
    return file.getvalue()


def _cpu_s(service: Up) -> float:
    """Return the CPU seconds of the service's processes, including its Postgres."""
    service_process = psutil.Process(service.process.pid)
    each = [
        process.cpu_times()
        for process in (service_process, *service_process.children(recursive=True))
    ]
    # CPU time of ended children: Postgres has a process for each connection.
    ended = sum(times.children_user + times.children_system for times in each)
    return ended + sum(times.user + times.system for times in each)


if __name__ == "__main__":
    sys.exit(main())
