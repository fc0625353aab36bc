"""A test whose program is missing is skipped, and fails in CI."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WALK = "tests/acceptance/test_walk_through.py::test_the_readme_walks_through_the_api"


@pytest.mark.parametrize(("ci", "outcome"), [("", "SKIPPED [1]"), ("true", "FAILED")])
def test_the_walk_without_curl_is_skipped_and_fails_in_ci(
    tmp_path: Path, ci: str, outcome: str
) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", WALK],
        env={"PATH": str(tmp_path), "CI": ci},
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == (1 if ci else 0), ended.stdout + ended.stderr
    assert outcome in ended.stdout
    assert "curl is not installed" in ended.stdout
    assert "apt-get install" in ended.stdout
