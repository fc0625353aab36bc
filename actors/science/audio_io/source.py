"""The file as the decoding libraries see it."""

from __future__ import annotations

from typing import BinaryIO


class BrokenAudio(Exception):
    """A library could not go on decoding. Never leaves the science package."""


class Source:
    """A binary file, or a part of it, with some bytes replaced, that remembers a failing read.

    Decoders call back from C, where an exception is printed and forgotten, and a storage that
    fails would look like the end of the file. `reraise` brings it back.

    Parameters
    ----------
    file
        Seekable.
    patches
        Bytes to be read in place of the file's own, by their position.
    part
        The bytes of the file that are to be seen; all of them by default. Positions count from its
        beginning.
    """

    def __init__(
        self, file: BinaryIO, *, patches: dict[int, bytes], part: range | None = None
    ) -> None:
        self._file = file
        self._patches = patches
        self._part = range(file.seek(0, 2)) if part is None else part
        self._failure: BaseException | None = None

    def read(self, size: int = -1) -> bytes:
        """As of a file; at a failure it returns nothing and remembers."""
        if self._failure is not None:
            return b""
        try:
            position = self.tell()
            left = max(len(self._part) - position, 0)
            data = self._file.read(left if size < 0 else min(size, left))
        except BaseException as failure:
            self._failure = failure
            return b""
        first_patch = min(self._patches, default=position + len(data))
        return self._patched(data, position) if first_patch < position + len(data) else data

    def seek(self, offset: int, whence: int = 0) -> int:
        """As of a file; a position that the file does not have becomes its beginning or end.

        Headers that are wrong lead decoders to positions that no file can have.
        """
        try:
            offset += (0, self.tell(), len(self._part))[whence]
            position = min(max(offset, 0), len(self._part))
            return self._file.seek(self._part.start + position) - self._part.start
        except BaseException as failure:
            self._failure = failure
            return 0

    def tell(self) -> int:
        """As of a file."""
        return self._file.tell() - self._part.start

    def seekable(self) -> bool:
        """Always."""
        return True

    def rewind(self) -> None:
        """Go to the beginning."""
        self.seek(0)
        self.reraise()

    def reraise(self) -> None:
        """Raise what a read or seek raised since the file was opened, if anything."""
        if self._failure is not None:
            raise self._failure

    def _patched(self, data: bytes, position: int) -> bytes:
        changed = bytearray(data)
        for offset, replacement in self._patches.items():
            for index, byte in enumerate(replacement, start=offset - position):
                if 0 <= index < len(changed):
                    changed[index] = byte
        return bytes(changed)
