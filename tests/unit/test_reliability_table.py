"""Documents name the tests of their promises: each of them must exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
ROOT = TESTS.parent
DOCS = ROOT / "docs"
#: Short names that the document uses for files it names often.
SHORT = {
    "windows": "integration/audio/test_failure_windows.py",
    "claims": "integration/db/test_claims.py",
    "one_claim": "integration/audio/test_one_claim.py",
    "broker": "integration/messaging/test_broker_faults.py",
    "restore": "integration/maintenance/test_restore.py",
    "check": "integration/cli/actions/test_restore.py",
}


@pytest.mark.parametrize(("document", "least"), [("reliability.md", 20), ("security.md", 5)])
def test_every_test_that_a_table_names_is_there(document: str, least: int) -> None:
    named, file = [], ""
    for prefix, test in re.findall(r"`([\w/.]*)::(test_\w+)`", (DOCS / document).read_text()):
        # Without a file it is the previous one.
        file = SHORT.get(prefix, prefix) or file
        named.append((file, test))
    assert len(named) > least
    missing = [
        f"{file}::{test}"
        for file, test in named
        if not re.search(rf"^def {test}\b", (TESTS / file).read_text(), re.MULTILINE)
    ]
    assert not missing


@pytest.mark.parametrize(
    "document", sorted(ROOT.glob("*.md")) + sorted(DOCS.rglob("*.md")), ids=lambda each: each.name
)
def test_every_file_of_a_test_that_a_document_names_is_there(document: Path) -> None:
    # Named from the root, or as in the tables from the folder of the tests.
    named = re.findall(
        r"`(?:tests/)?((?:unit|integration|acceptance|chaos|support|benchmarks)/[\w/.]+)",
        document.read_text(),
    )
    assert [each for each in named if not (TESTS / each).exists()] == []
