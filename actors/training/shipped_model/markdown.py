"""Tables in Markdown."""

from __future__ import annotations

from collections.abc import Iterable


def table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    """Return the lines of a table, with an empty line before and after it."""
    names = list(heads)
    return ["", _row(names), "|" + "---|" * len(names), *map(_row, rows), ""]


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
