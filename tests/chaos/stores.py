"""The blob store of a run: a folder or an S3 server, which can be made to fail or fill up."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

from db.blobs.blob_store import Blobs
from tests.support import s3

#: Size of a disk that a run fills up: several times the data that a run stores.
DISK_BYTES = 256 * 1024 * 1024


class Store(ABC):
    """A blob store, and the faults that it supports."""

    #: The value of ``BLOB_URL``.
    url: str
    #: Why the disk cannot be filled up on this machine; None if it can.
    cannot_fill: str | None

    @abstractmethod
    def keys(self) -> set[str]:
        """Return every stored key, including those that a listing by the product would not show."""

    @abstractmethod
    def take_away(self, draw: float) -> str:
        """Make every access fail or hang, as ``draw`` in [0, 1) chooses; return a description."""

    @abstractmethod
    def bring_back(self) -> None:
        """Undo :meth:`take_away`."""

    def fill(self) -> None:
        """Fill up the disk."""
        raise NotImplementedError

    def empty(self) -> None:
        """Undo :meth:`fill`."""
        raise NotImplementedError


class FolderStore(Store):
    """A folder, on a separate small disk if this process may mount one."""

    def __init__(self, home: Path, *, cannot_fill: str | None) -> None:
        self.folder = home / "blobs"
        self.folder.mkdir()
        self.url = self.folder.as_uri()
        self.cannot_fill = cannot_fill
        self._away = home / "away"
        self._filler = home / "filler"

    def keys(self) -> set[str]:
        files = (path for path in self.folder.rglob("*") if path.is_file())
        return {str(path.relative_to(self.folder)) for path in files}

    def take_away(self, draw: float) -> str:
        # Permissions do not apply to root, so a file replaces the folder: reads and writes fail as
        # on a broken disk. An empty folder would be a different fault, see docs/reliability.md.
        self.folder.rename(self._away)
        self.folder.touch()
        return "every access fails"

    def bring_back(self) -> None:
        self.folder.unlink()
        self._away.rename(self.folder)

    def fill(self) -> None:
        piece = bytes(1024 * 1024)
        file = os.open(self._filler, os.O_CREAT | os.O_WRONLY)
        try:
            while piece:
                try:
                    os.write(file, piece)
                except OSError:
                    # Down to the last bytes, so that not even a small blob fits.
                    piece = piece[: len(piece) // 2]
        finally:
            os.close(file)

    def empty(self) -> None:
        self._filler.unlink()


class S3Store(Store):
    """A bucket on a real S3 server, which is killed or hangs."""

    def __init__(self, server: s3.PrivateS3) -> None:
        self._server = server
        self._frozen = False
        self.url = f"s3://{s3.BUCKET}/chaos"
        self.cannot_fill = "this run's blobs are on an S3 server"

    def keys(self) -> set[str]:
        return set(Blobs(self.url).keys(""))

    def take_away(self, draw: float) -> str:
        self._frozen = draw < 0.5
        if self._frozen:
            self._server.freeze()
            return "it hangs"
        self._server.kill()
        return "it was killed"

    def bring_back(self) -> None:
        if self._frozen:
            self._server.thaw()
        else:
            self._server.start()


@contextlib.contextmanager
def folder(home: Path) -> Iterator[FolderStore]:
    """Provide a store in a folder, on a separate disk if possible."""
    disk = home / "disk"
    disk.mkdir()
    cannot_fill = _mount(disk)
    try:
        yield FolderStore(disk, cannot_fill=cannot_fill)
    finally:
        if cannot_fill is None:
            subprocess.run(["umount", "--lazy", str(disk)], check=True)


@contextlib.contextmanager
def bucket() -> Iterator[S3Store]:
    """Provide a store on a private S3 server."""
    # The object store library reads the environment, here and in Clamor's processes.
    with s3.private_s3() as server, mock.patch.dict(os.environ, server.environment):
        yield S3Store(server)


def _mount(disk: Path) -> str | None:
    """Mount a small disk in memory; return None, or the reason why it failed."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "mounting a small disk takes root on Linux"
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "clamor-chaos", str(disk)]
    mounted = subprocess.run(command, check=False, capture_output=True, text=True)
    return mounted.stderr.strip() or "mount failed" if mounted.returncode else None
