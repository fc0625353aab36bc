"""The HTTP process has few imports, and importing creates nothing."""

from __future__ import annotations

import subprocess
import sys

HEAVY = ("torch", "torchaudio", "sklearn", "soundfile", "av", "soxr", "matplotlib")


def test_importing_the_app_loads_no_science() -> None:
    program = (
        "import sys, services.app, services.processes.server;"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert loaded.stdout.strip() == "[]"
