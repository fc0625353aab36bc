"""The HTTP process has few imports, and importing creates nothing."""

from __future__ import annotations

import subprocess
import sys

HEAVY = ("torch", "torchaudio", "sklearn", "soundfile", "av", "soxr", "matplotlib")


def test_importing_the_app_loads_no_science() -> None:
    assert loaded("services.app, services.processes.server", of=HEAVY) == "[]"


def test_a_command_that_starts_a_service_leaves_the_libraries_to_it() -> None:
    libraries = (*HEAVY, "alembic", "dramatiq", "falcon", "sqlalchemy")
    assert loaded("services.cli.actions.targets", of=libraries) == "[]"


def loaded(modules: str, *, of: tuple[str, ...]) -> str:
    """Return which modules a new process has loaded after importing some."""
    program = f"import sys, {modules}; print([name for name in {of!r} if name in sys.modules])"
    return subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    ).stdout.strip()
