"""The blob that names the owner of a store, as an operator or another program may have left it."""

from __future__ import annotations

from pathlib import Path

import pytest

from db import ownership
from db.blobs.blob_store import Blobs
from db.blobs.keys import OWNER

WHO = '"installation_id": "11111111-1111-4111-8111-111111111111", "database": "a"'


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        f'{{{WHO}, "restored_at": "yesterday"}}',
        # It could not be subtracted from the time of the database.
        f'{{{WHO}, "restored_at": "2026-03-14T00:00:00"}}',
    ],
)
def test_a_damaged_owner_is_another_owner(tmp_path: Path, content: str) -> None:
    blobs = Blobs(tmp_path.as_uri())
    blobs.put(OWNER, content.encode())
    assert ownership.of_blobs(blobs) == ownership.UNREADABLE
