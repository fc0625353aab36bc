"""The sentences of every problem type, in one file for review.

Other tests assert types and codes. After a change of a text, write the file again:
``.venv/bin/python -m tests.unit.http.test_problem_texts``
"""

from __future__ import annotations

import inspect
from pathlib import Path

from services import app  # noqa: F401  - defines every problem type
from services.http import errors

GOLDEN = Path(__file__).parent / "golden" / "problems.txt"


def texts() -> str:
    """Return name, status, title, description and advice of each problem type."""
    parts = []
    for kind in errors.kinds():
        described = inspect.getdoc(kind)
        parts.append(f"{kind.name} {kind.status}\n{kind.title}\n{described}\n{kind.advice}\n")
    return "\n".join(parts)


def test_the_sentences_of_problems_are_those_that_were_reviewed() -> None:
    assert texts() == GOLDEN.read_text()


if __name__ == "__main__":
    GOLDEN.write_text(texts())
