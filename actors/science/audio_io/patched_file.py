"""The file object for the decoding libraries."""

from __future__ import annotations

from typing import BinaryIO


class BrokenAudio(Exception):
    """A library failed to decode. Never leaves the science package."""


class PatchedFile:
    """A binary file, or a part of it, with some bytes replaced, that stores a read error.

    Decoders call back from C, where an exception is only printed, and a failing storage would look
    like the end of the file. `reraise` raises it again.

    Parameters
    ----------
    file
        Seekable.
    patches
        Replacements for bytes of the file, by position.
    part
        The visible bytes of the file; all of them by default. Positions are relative to its start,
        which may be before that of the file, where zeros are.
    """

    def __init__(
        self, file: BinaryIO, *, patches: dict[int, bytes], part: range | None = None
    ) -> None:
        self._file = file
        self._patches = patches
        self._part = range(file.seek(0, 2)) if part is None else part
        self._position = 0
        self._failure: BaseException | None = None

    @property
    def n_bytes(self) -> int:
        """The number of visible bytes."""
        return len(self._part)

    def read(self, size: int = -1) -> bytes:
        """Read as from a file; after a failure, return nothing and store the error."""
        if self._failure is not None:
            return b""
        try:
            position = self._position
            left = len(self._part) - position
            size = left if size < 0 else min(size, left)
            before = bytes(min(max(-self._part.start - position, 0), size))
            data = before + self._file.read(size - len(before))
            self._position += len(data)
        except BaseException as failure:
            self._failure = failure
            return b""
        first_patch = min(self._patches, default=position + len(data))
        return self._patched(data, position) if first_patch < position + len(data) else data

    def seek(self, offset: int, whence: int = 0) -> int:
        """Seek as in a file; positions outside the file become its start or end.

        Wrong headers lead decoders to impossible positions.
        """
        try:
            offset += (0, self._position, len(self._part))[whence]
            self._position = min(max(offset, 0), len(self._part))
            self._file.seek(max(self._part.start + self._position, 0))
            return self._position
        except BaseException as failure:
            self._failure = failure
            return 0

    def tell(self) -> int:
        """Return the position, as of a file."""
        return self._position

    def seekable(self) -> bool:
        """Return True."""
        return True

    def rewind(self) -> None:
        """Seek to the start."""
        self.seek(0)
        self.reraise()

    def reraise(self) -> None:
        """Raise the error of a read or seek since the file was opened, if any."""
        if self._failure is not None:
            raise self._failure

    def _patched(self, data: bytes, position: int) -> bytes:
        changed = bytearray(data)
        for offset, replacement in self._patches.items():
            for index, byte in enumerate(replacement, start=offset - position):
                if 0 <= index < len(changed):
                    changed[index] = byte
        return bytes(changed)
