"""A blob store in a folder that becomes unavailable, and one on a full disk or a small one."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.chaos import stores


@contextmanager
def away(blob_url: str) -> Iterator[None]:
    """Make every access to the store in a folder fail."""
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
    """Mount a small disk with a store, to be filled up; skip the test if that is not possible."""
    with stores.folder(home) as disk:
        if disk.cannot_fill is not None:
            pytest.skip(f"no disk to fill up: {disk.cannot_fill}")
        yield disk


@contextmanager
def full(disk: stores.FolderStore) -> Iterator[None]:
    """Leave no space on a disk."""
    disk.fill()
    try:
        yield
    finally:
        disk.empty()


@contextmanager
def small_files(most_bytes: int) -> Iterator[None]:
    """Let the system refuse larger files to this process, as a full disk would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
