"""docs/reliability.md names the test of each of its promises: the test must exist."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
DOCUMENT = TESTS.parent / "docs" / "reliability.md"
#: Short names that the document uses for files it names often.
SHORT = {
    "windows": "integration/audio/test_failure_windows.py",
    "claims": "integration/db/test_claims.py",
    "one_claim": "integration/audio/test_one_claim.py",
    "broker": "integration/messaging/test_broker_faults.py",
    "restore": "integration/maintenance/test_restore.py",
    "check": "integration/cli/actions/test_restore.py",
}


def test_every_test_that_the_table_names_is_there() -> None:
    named, file = [], ""
    for prefix, test in re.findall(r"`([\w/.]*)::(test_\w+)`", DOCUMENT.read_text()):
        # Without a file it is the previous one.
        file = SHORT.get(prefix, prefix) or file
        named.append((file, test))
    assert len(named) > 20
    missing = [
        f"{file}::{test}"
        for file, test in named
        if not re.search(rf"^def {test}\b", (TESTS / file).read_text(), re.MULTILINE)
    ]
    assert not missing
