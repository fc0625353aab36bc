"""The science package does not depend on other packages."""

from __future__ import annotations

import ast
from pathlib import Path

import actors.science

FORBIDDEN = {"dramatiq", "sqlalchemy", "falcon", "db", "services", "pickle", "logging", "os"}
#: Modules of the other actors that it may import: lower-level tables that the API reads, too.
BELOW = (
    "actors.facts.channel_rules",
    "actors.facts.formats",
    "actors.facts.frames",
    "actors.facts.noise_types",
    "actors.facts.rounding",
    "actors.facts.third_octaves",
    "actors.science",
)


def test_science_imports_nothing_of_the_shell() -> None:
    for path in Path(actors.science.__path__[0]).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            for name in names:
                assert name.split(".")[0] not in FORBIDDEN, (path.name, name)
                assert not name.startswith("actors") or name.startswith(BELOW), (path.name, name)
                if path.name not in ("plots.py", "confusion.py", "day_plots.py"):
                    assert not name.startswith("matplotlib"), path.name
                if path.name != "torchaudio_cpu.py":
                    assert name.split(".")[0] != "torchaudio", path.name
