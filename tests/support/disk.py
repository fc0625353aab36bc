"""Simulation of a power failure for a folder, based on the calls of ``os.fsync``."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from db.blobs.durable import UNFINISHED


class Disk:
    """Records which files were flushed, and with which names their folders were."""

    def __init__(self, root: Path, patch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.n_flushes = 0
        #: The files that were renamed to their final names, in order.
        self.finished: list[Path] = []
        self._files: set[int] = set()
        self._names: dict[int, set[str]] = {}
        self._fsync = os.fsync
        patch.setattr(os, "fsync", self._flush)

    def lost(self) -> list[str]:
        """Return the finished files below the folder that a power failure would lose."""
        files = [path for path in self.root.rglob("*") if path.is_file()]
        return sorted(
            str(path.relative_to(self.root))
            for path in files
            if not UNFINISHED.fullmatch(path.name)
            and not (self.is_flushed(path) and self._is_named(path))
        )

    def is_flushed(self, path: Path) -> bool:
        """Return whether a file's content is on disk."""
        return path.stat().st_ino in self._files

    def _is_named(self, path: Path) -> bool:
        named = path.name in self._names.get(path.parent.stat().st_ino, ())
        return named and (path == self.root or self._is_named(path.parent))

    def _flush(self, descriptor: int) -> None:
        self._fsync(descriptor)
        self.n_flushes += 1
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            before = self._names.get(status.st_ino, set())
            self._names[status.st_ino] = now = set(os.listdir(descriptor))
            folder = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
            self.finished += [folder / name for name in now - before if (folder / name).is_file()]
        else:
            self._files.add(status.st_ino)
