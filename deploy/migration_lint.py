"""Refuse statements of migrations that would stop the traffic, and that squawk does not know.

    python -m deploy.migration_lint build/migrations.sql

The file is printed by ``clamor migrate --sql``. An exception for one statement stands above it in
its revision: the reason, then ``-- lint-ignore rule``.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Rule:
    """A kind of statement, and what to write instead."""

    name: str
    statement: re.Pattern[str]
    remedy: str


def _rule(name: str, statement: str, remedy: str) -> Rule:
    return Rule(name, re.compile(statement, re.IGNORECASE | re.DOTALL), remedy)


RULES = (
    # Alembic writes its own row; a batch of a backfill has parameters.
    _rule(
        "whole-table-write",
        r"(UPDATE|DELETE\s+FROM|MERGE\s+INTO|WITH\b.*\b(UPDATE|DELETE\s+FROM))\s"
        r"(?!\s*(ONLY\s+)?alembic_version\b)(?!.*\$\d)",
        "it keeps the locks of all its rows until the end of the revision: use steps.backfill",
    ),
    _rule(
        "check-of-new-column",
        r"ALTER\s+TABLE\b.*\bADD\s+(?!CONSTRAINT\b|CHECK\b)((?!,\s*ADD\s).)*\bCHECK\b",
        "it reads the table under ACCESS EXCLUSIVE: add the column, then use steps.add_check",
    ),
    _rule(
        "table-rewrite",
        r"ALTER\s+TABLE\b.*\bSET\s+(UNLOGGED|LOGGED|TABLESPACE|ACCESS\s+METHOD)\b"
        r"|CLUSTER\b|VACUUM\s*(\([^)]*)?\bFULL\b",
        "it writes the table again under ACCESS EXCLUSIVE: leave it to the administrator",
    ),
    _rule(
        "table-lock",
        r"LOCK\b|TRUNCATE\b|REFRESH\s+MATERIALIZED\s+VIEW\s+(?!CONCURRENTLY\b)",
        "its lock is kept until the end of the revision: use a step of db.migration.steps",
    ),
)
#: What no rule looks into: comments, strings, and bodies of functions.
_OPAQUE = re.compile(r"--[^\n]*|/\*.*?\*/|'(?:[^']|'')*'|\$(\w*)\$.*?\$\1\$", re.DOTALL)
_IGNORED = re.compile(r"--\s*lint-ignore\s+([\w-]+)")


def findings(sql: str) -> Iterator[str]:
    """Yield a line for each statement that breaks a rule."""
    opaque = _OPAQUE.sub(lambda found: re.sub(r"[^\n]", " ", found[0]), sql)
    start = 0
    for end in (*(found.end() for found in re.finditer(";", opaque)), len(opaque)):
        statement = opaque[start:end]
        ignored = set(_IGNORED.findall(sql[start:end]))
        start_of_text = end - len(statement.lstrip())
        for rule in RULES:
            if rule.statement.match(statement.lstrip()) and rule.name not in ignored:
                line = sql.count("\n", 0, start_of_text) + 1
                yield f"{line}: {rule.name}: {rule.remedy}"
        start = end


def main() -> int:
    """Print the findings; return 1 if there are any."""
    file = Path(sys.argv[1])
    found = list(findings(file.read_text(encoding="utf-8")))
    for line in found:
        print(f"{file}:{line}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
