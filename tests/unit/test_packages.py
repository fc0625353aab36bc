"""What an installation has besides the modules."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


BUILD = ("-c", "import setuptools; setuptools.setup()", "--quiet")


def test_packages_say_that_they_are_typed(tmp_path: Path) -> None:
    built = tmp_path / "built"
    steps = ("egg_info", "--egg-base", tmp_path, "build_py", "--build-lib", built)
    subprocess.run([sys.executable, *BUILD, *steps], cwd=ROOT, check=True, capture_output=True)
    marked = {str(path.parent.relative_to(built)) for path in built.rglob("py.typed")}
    assert marked == {"actors", "db", "services"}
