"""Count words that make the project's prose hard to read; `make check` fails when there are many.

Counts docstrings, comments, string literals and documents. Each limit is a number per 10,000 words,
near that of well-known Python projects; `python deploy/wording.py --show` prints where the words
are.
"""

from __future__ import annotations

import ast
import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
#: Written by a program, or a record of the past.
LEFT_OUT = ("CHANGELOG.md", "docs/accuracy.md", "db/migrations/versions", "actors/science/model")

#: What is counted, and how often it may stand in 10,000 words.
LIMITS = {
    "tell, told": (r"\b(?:tells?|told|telling)\b", 1.4),
    "nobody, somebody": (r"\b(?:nobody|somebody)\b", 0.5),
    "whoever": (r"\bwhoever\b", 0.5),
    "lies": (r"\blies?\b", 0.5),
    "bears, borne": (r"\b(?:bears?|borne)\b", 0.5),
    "anew": (r"\banew\b", 0.5),
    "goes on": (r"\b(?:goes?|going|went) on\b", 0.5),
    "is no": (r"(?<!there )\b(?:is|are|was) no\b(?! longer)", 1.0),
    "of its own": (r"\bof (?:its|their|his) own\b", 1.0),
    "a clause as the subject": (r"(?:^|[.:;] )What [^.,:;\n]{1,60} (?:is|are|was|has)\b", 2.4),
}


def prose(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines of a file that people read, each with its number; code is left out."""
    lines = _of_document(path) if path.suffix == ".md" else _of_code(path)
    for number, line in lines:
        yield number, re.sub(r"`+[^`]*`+", "", line)


def _of_document(path: Path) -> Iterator[tuple[int, str]]:
    is_code = False
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if line.lstrip().startswith("```"):
            is_code = not is_code
        elif not is_code:
            yield number, line


def _of_code(path: Path) -> Iterator[tuple[int, str]]:
    text = path.read_text(encoding="utf-8")
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string.lstrip("#: ")
    for node in ast.walk(ast.parse(text)):
        # Docstrings and texts, such as messages. A string without a blank is a name.
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            for number, line in enumerate(node.value.splitlines(), node.lineno):
                yield number, line.strip()


def files() -> Iterator[Path]:
    """Yield the project's own Python files and documents."""
    listed = subprocess.run(
        ["git", "ls-files", "*.py", "*.md"],  # noqa: S607
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    for name in listed:
        if not name.startswith(LEFT_OUT) and (ROOT / name).exists():
            yield ROOT / name


def main() -> int:
    """Print the counts; return 1 when one is above its limit."""
    n_words = 0
    found: dict[str, list[str]] = {name: [] for name in LIMITS}
    for path in files():
        for number, line in prose(path):
            n_words += len(line.split())
            for name, (pattern, _) in LIMITS.items():
                places = re.findall(pattern, line, re.IGNORECASE)
                found[name] += [f"{path.relative_to(ROOT)}:{number}: {line}"] * len(places)
    status = 0
    for name, (_, limit) in LIMITS.items():
        share = len(found[name]) / n_words * 10_000
        is_over = share > limit
        status |= is_over
        print(f"{name:24} {share:5.1f} of {limit:.1f}{'  too many' if is_over else ''}")
        if "--show" in sys.argv:
            print(*found[name], sep="\n")
    print(f"per 10,000 of {n_words:,} words")
    return status


if __name__ == "__main__":
    sys.exit(main())
