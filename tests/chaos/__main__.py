"""``python -m tests.chaos --seed 1``: one run, or several in sequence with ``--seed 1..20``."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

#: Minutes of fault injection; with the quiet run before and the settling after, a run takes two to
#: four minutes.
MINUTES = 1.5

#: The fields of a report to print, with their titles.
TOLD = {
    "faults": "faults injected",
    "hostile": "sent by the hostile caller",
    "not_injected": "faults not injected",
    "restarts": "processes restarted",
    "tries": "posts retried",
    "sessions": "sessions",
    "runs": "runs of steps",
    "dead_letters": "dead letters",
}


def main() -> int:
    """Run the seeds; return 0 if all pass."""
    options = _parser().parse_args()
    if len(options.seed) == 1:
        return _one(options, options.seed[0])
    return _many(options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos",
        description="Post recordings while faults are injected, and verify that no work is lost.",
    )
    parser.add_argument(
        "--seed", type=_seeds, default=[1], metavar="N[..M]", help="of the faults (default: 1)"
    )
    parser.add_argument(
        "--minutes", type=float, default=MINUTES, help=f"minutes of faults (default: {MINUTES})"
    )
    parser.add_argument("--recordings", type=int, metavar="K", help="stop after K recordings")
    parser.add_argument(
        "--quick", action="store_true", help="with short leases and many attempts, not the defaults"
    )
    parser.add_argument(
        "--full-s", type=float, metavar="S", help="seconds of each full disk (default: a few)"
    )
    parser.add_argument("--report", type=Path, help="write the report to this file, as JSON")
    return parser


def _seeds(text: str) -> list[int]:
    first, _, last = text.partition("..")
    seeds = list(range(int(first), int(last or first) + 1))
    if not seeds:
        raise argparse.ArgumentTypeError("the range is empty")
    return seeds


def _one(options: argparse.Namespace, seed: int) -> int:
    # Imported here: it loads the test support, which the parent of several runs does not need.
    from tests.chaos.run import run

    report = run(
        seed=seed,
        minutes=options.minutes,
        limit=options.recordings,
        is_quick=options.quick,
        full_s=options.full_s,
    ).to_json()
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
    """Run each seed in a separate process, so that runs cannot affect each other."""
    reports = []
    with tempfile.TemporaryDirectory(prefix="clamor-chaos-reports-") as folder:
        for seed in options.seed:
            path = Path(folder) / f"{seed}.json"
            command = [
                sys.executable,
                "-m",
                "tests.chaos",
                "--seed",
                str(seed),
                "--minutes",
                str(options.minutes),
                "--report",
                str(path),
            ]
            command += ["--quick"] * options.quick
            if options.full_s is not None:
                command += ["--full-s", str(options.full_s)]
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
    """Return a summary of a run in one line."""
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
