"""A blob store in a folder that goes away, and one whose disk is full."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.chaos import stores


@contextmanager
def away(blob_url: str) -> Iterator[None]:
    """Let every access to the store in a folder fail."""
    folder = Path(unquote(urlsplit(blob_url).path))
    hidden = folder.with_name("away")
    folder.rename(hidden)
    folder.touch()
    try:
        yield
    finally:
        folder.unlink()
        hidden.rename(folder)


@contextmanager
def small_disk(home: Path) -> Iterator[stores.FolderStore]:
    """A store on a disk of its own, to be filled up; skips the test where none can be mounted."""
    with stores.folder(home) as disk:
        if disk.cannot_fill is not None:
            pytest.skip(f"no disk to fill up: {disk.cannot_fill}")
        yield disk


@contextmanager
def full(disk: stores.FolderStore) -> Iterator[None]:
    """Leave no room on a disk."""
    disk.fill()
    try:
        yield
    finally:
        disk.empty()
