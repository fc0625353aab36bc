"""Temporary folders that the user of root's embedded Postgres can traverse."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def passable_folder() -> Iterator[Path]:
    """Make a folder directly in the temporary one, and remove it at the end."""
    with tempfile.TemporaryDirectory(prefix="clamor-test-", ignore_cleanup_errors=True) as name:
        folder = Path(name).resolve()
        folder.chmod(0o711)
        yield folder
