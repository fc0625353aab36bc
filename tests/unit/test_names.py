"""A public class name stands once in the product, so that a search finds one thing."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("services", "actors", "db")
#: A public class at any depth. Much faster than to parse all modules.
DEFINED = re.compile(r"^ *class ([^\W_]\w*)(?=[(:\[])", re.MULTILINE)
#: The structs of the client have the names of the answers that they mirror, and are checked against
#: them (tests/unit/client/test_wire.py).
MIRRORS = ROOT / "services" / "client" / "wire"


def public_classes() -> dict[str, list[str]]:
    """Return the modules that define each public class."""
    found: dict[str, list[str]] = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            if MIRRORS in path.parents:
                continue
            for name in DEFINED.findall(path.read_text()):
                found.setdefault(name, []).append(str(path.relative_to(ROOT)))
    return found


def test_a_public_class_name_stands_once() -> None:
    classes = public_classes()
    assert {"AudioSession", "Runtime"} <= classes.keys()
    assert {name: paths for name, paths in classes.items() if len(paths) > 1} == {}
