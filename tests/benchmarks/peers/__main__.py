"""Compare Clamor with programs that do the same work: `make bench-peers`.

All of them use the same Postgres, RabbitMQ and recordings, and take turns; each row has the medians
of the rounds. A program that finds other events than the science alone ends the comparison. The
defaults make small loads, for a first look.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console

from tests.benchmarks.peers import costs, figures, growth, loads_measured
from tests.benchmarks.peers.figures import Section
from tests.benchmarks.peers.loads import Load, Recordings
from tests.benchmarks.peers.stage import Stage
from tests.support import servers


def main() -> int:
    options = _options()
    said = Console(stderr=True)
    measured: dict[str, Section] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="clamor-peers-")))
        # A private Postgres may run as another user, who must be able to pass through.
        folder.chmod(0o755)
        stage = Stage(
            postgres=stack.enter_context(servers.postgres()),
            rabbitmq=stack.enter_context(servers.rabbitmq()),
            folder=folder,
            said=said,
            rounds=options.rounds,
            recordings=Recordings(folder),
        )
        for name, measure in _sections(stage, options).items():
            if not options.only or name in options.only:
                measured[name] = measure()
                Console().print("\n".join(measured[name].lines()), soft_wrap=True)
                if options.json is not None:
                    # After each section, so that an interrupted run keeps what it has.
                    figures.write_json(options.json, measured, vars(options))
    if options.report is not None:
        figures.write_report(options.report, measured, of="bench-peers")
    return 0


def _sections(stage: Stage, options: argparse.Namespace) -> dict[str, Callable[[], Section]]:
    files = stage.recordings

    def clips() -> list[Path]:
        return files.clips(options.clips, seconds=5)

    def loaded(name: str, chosen: Callable[[], list[Path]]) -> Callable[[], Section]:
        return lambda: loads_measured.throughput(stage, Load(name, chosen()))

    return {
        "clips": loaded(f"{options.clips} clips of 5 s", clips),
        "minutes": loaded(
            f"{options.recordings} recordings of 5 minutes",
            lambda: [files.long(5)] * options.recordings,
        ),
        "hours": loaded(
            f"a recording of {options.hours:g} hours", lambda: [files.long(60 * options.hours)]
        ),
        "latency": lambda: loads_measured.latency(stage, n=options.singles),
        "cold": lambda: loads_measured.cold(stage),
        "costs": lambda: costs.costs(stage, clips()),
        "backlog": lambda: growth.backlog(stage, sizes=options.backlogs, n=options.clips),
        "surroundings": lambda: growth.surroundings(stage, clips(), n_rows=options.rows),
        "connections": lambda: growth.connections(stage),
    }


SECTIONS = (
    "clips",
    "minutes",
    "hours",
    "latency",
    "cold",
    "costs",
    "backlog",
    "surroundings",
    "connections",
)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench-peers", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=SECTIONS, help="sections (default: all)")
    parser.add_argument("--rounds", type=int, default=3, help="of each section (%(default)s)")
    parser.add_argument("--clips", type=int, default=40, help="clips of 5 s (%(default)s)")
    parser.add_argument("--recordings", type=int, default=2, help="of 5 minutes (%(default)s)")
    parser.add_argument("--hours", type=float, default=0.5, help="of the longest (%(default)s)")
    parser.add_argument("--singles", type=int, default=30, help="single clips (%(default)s)")
    parser.add_argument("--backlogs", type=int, nargs="+", default=[300, 10_000], metavar="N")
    parser.add_argument("--rows", type=int, default=10_000, help="answered ones (%(default)s)")
    parser.add_argument("--json", type=Path, help="write all values to this file")
    parser.add_argument("--report", type=Path, help="write the tables into this document")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
