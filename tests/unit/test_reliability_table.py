"""Documents name the test of each of their promises: the test must exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
DOCS = TESTS.parent / "docs"
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
