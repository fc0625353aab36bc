"""The figures of a comparison: values by section, row and program; as JSON and as tables."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from actors.training.shipped_model import markdown

Values = dict[str, list[float]]


@dataclass
class Section:
    """A table: for each row the values of each program, one a round."""

    title: str
    rows: dict[str, Values] = field(default_factory=dict)

    def add(self, row: str, program: str, value: float) -> None:
        """Add the value of a round."""
        self.rows.setdefault(row, {}).setdefault(program, []).append(value)

    def median(self, row: str, program: str) -> float:
        """Return the median of the rounds."""
        return statistics.median(self.rows[row][program])

    def lines(self) -> list[str]:
        """Return the table of medians in Markdown."""
        programs = list(dict.fromkeys(name for row in self.rows.values() for name in row))
        cells = (
            [row, *(_shown(values.get(program)) for program in programs)]
            for row, values in self.rows.items()
        )
        return markdown.table([self.title, *programs], cells)


def _shown(values: list[float] | None) -> str:
    if not values:
        return ""
    value = statistics.median(values)
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def write_json(path: Path, sections: Mapping[str, Section], options: Mapping[str, object]) -> None:
    """Write all values with the machine and the options."""
    document = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {"processor": platform.machine(), "cores": os.cpu_count()},
        "options": {name: str(value) for name, value in options.items()},
        "sections": {
            name: {"title": each.title, "rows": each.rows} for name, each in sections.items()
        },
    }
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def write_report(path: Path, sections: Mapping[str, Section], *, of: str) -> None:
    """Replace the tables of a document that a benchmark made, between the marks with its name.

    Raises
    ------
    ValueError
        If the document does not mark where they stand.
    """
    text = path.read_text(encoding="utf-8")
    before, begin, rest = text.partition(f"<!-- {of}: begin -->")
    _, end, after = rest.partition(f"<!-- {of}: end -->")
    if not (begin and end):
        raise ValueError(f"{path} lacks <!-- {of}: begin --> and <!-- {of}: end -->")
    lines = [line for each in sections.values() for line in each.lines()]
    path.write_text(f"{before}{begin}\n{chr(10).join(lines)}\n{end}{after}", encoding="utf-8")
