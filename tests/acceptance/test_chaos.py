"""A short fault-injection run; ``make chaos SEED=1..20`` runs the long ones."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import servers

pytestmark = [pytest.mark.acceptance, pytest.mark.slow]

#: Starts with a full disk, closed connections, and shuffled and purged messages on one side, and a
#: killed worker and a killed Postgres on the other.
SEED = 15
MINUTES = 0.5
#: The test takes one and a half minutes on an idle machine.
LIMIT_S = 900


@pytest.mark.timeout(LIMIT_S + 60)
def test_nothing_is_lost_while_everything_fails(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    ended = subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.chaos",
            "--seed",
            str(SEED),
            "--minutes",
            str(MINUTES),
            "--quick",
            "--report",
            str(report),
        ],
        check=False,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )
    print(ended.stdout)
    told = json.loads(report.read_text())
    if told["unavailable"]:
        servers.unavailable(told["unavailable"])
    assert ended.returncode == 0, ended.stdout[-10_000:] + ended.stderr[-5_000:]
    assert told["passed"]
    assert sum(told["faults"].values()) >= 3
    assert sum(told["sessions"].values()) >= told["recordings"]
