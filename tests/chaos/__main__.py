"""``python -m tests.chaos --seed 1``: one run, or one after the other with ``--seed 1..20``."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

#: Minutes during which faults are injected; with the quiet run before and the settling after it
#: a run takes two to four.
MINUTES = 1.5

#: What is told of a run, and what it is called.
TOLD = {
    "faults": "faults injected",
    "not_injected": "faults not injected",
    "restarts": "processes started again",
    "tries": "posts that were tried again",
    "sessions": "sessions",
    "runs": "runs of steps",
    "dead_letters": "dead letters",
}


def main() -> int:
    """Run the seeds; 0 if every one passes."""
    options = _parser().parse_args()
    if len(options.seed) == 1:
        return _one(options, options.seed[0])
    return _many(options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos",
        description="Post recordings while everything fails, and look whether anything is lost.",
    )
    parser.add_argument(
        "--seed", type=_seeds, default=[1], metavar="N[..M]", help="what goes wrong (default: 1)"
    )
    parser.add_argument(
        "--minutes", type=float, default=MINUTES, help=f"of faults (default: {MINUTES})"
    )
    parser.add_argument("--recordings", type=int, metavar="K", help="stop once so many were posted")
    parser.add_argument("--report", type=Path, help="write what came of it into this file")
    return parser


def _seeds(text: str) -> list[int]:
    first, _, last = text.partition("..")
    seeds = list(range(int(first), int(last or first) + 1))
    if not seeds:
        raise argparse.ArgumentTypeError("the range is empty")
    return seeds


def _one(options: argparse.Namespace, seed: int) -> int:
    # What runs it loads the test support; the parent of many runs does not need that.
    from tests.chaos.run import run

    report = run(seed=seed, minutes=options.minutes, limit=options.recordings).to_json()
    if options.report:
        options.report.write_text(json.dumps(report))
    for name, title in TOLD.items():
        print(f"{title}: {report[name]}")
    print(_line(report))
    for complaint in report["complaints"]:
        print(f"  {complaint}")
    if not report["passed"]:
        print(f"the logs are in {report['kept']}")
    return 0 if report["passed"] else 1


def _many(options: argparse.Namespace) -> int:
    """Each seed in a process of its own, so that no run can leave anything to the next."""
    reports = []
    with tempfile.TemporaryDirectory(prefix="clamor-chaos-reports-") as folder:
        for seed in options.seed:
            path = Path(folder) / f"{seed}.json"
            command = [sys.executable, "-m", "tests.chaos", "--seed", str(seed),
                       "--minutes", str(options.minutes), "--report", str(path)]  # fmt: skip
            if options.recordings is not None:
                command += ["--recordings", str(options.recordings)]
            subprocess.run(command, check=False, env=os.environ)
            if path.exists():
                reports.append(json.loads(path.read_text()))
    print()
    for report in reports:
        print(_line(report))
    passed = sum(report["passed"] for report in reports)
    print(f"{passed} of {len(options.seed)} runs passed")
    return 0 if passed == len(options.seed) else 1


def _line(report: dict[str, Any]) -> str:
    """A run in one line."""
    settled_s = report["settled_s"]
    settled = "not settled" if settled_s is None else f"settled in {settled_s:5.1f} s"
    return (
        f"seed {report['seed']:>3}  {'passed' if report['passed'] else 'FAILED'}  "
        f"{report['store']:<9}  {sum(report['faults'].values()):>3} faults  "
        f"{sum(report['sessions'].values()):>4} sessions of {report['recordings']} recordings  "
        f"{settled}  {report['took_s']:.0f} s in all"
        + (f"  {report['kept']}" if report["kept"] else "")
    )


if __name__ == "__main__":
    sys.exit(main())
