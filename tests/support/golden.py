"""Golden files of sentences: the name of a case, its sentence, and an empty line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def read(file: Path) -> dict[str, str]:
    """Return the sentences of a file by case."""
    return dict(case.split("\n", 1) for case in file.read_text().strip().split("\n\n"))


def write(file: Path, sentences: Mapping[str, str]) -> None:
    """Write a file again, after its texts have changed."""
    file.write_text("\n".join(f"{name}\n{sentence}\n" for name, sentence in sentences.items()))
