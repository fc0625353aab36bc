"""A ZIP archive with a file for each recording, written from its begin to its end."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Sequence
from typing import IO
from uuid import UUID

from actors.analytics.formats.rows import Event, Recording, Writer

#: What may stand in the name of a file everywhere; everything else becomes an underscore.
_NO_NAME = re.compile(r"[^\w.()\[\]+ -]")
_MOST_CHARS = 80
#: The least that the format knows: what is in an archive tells of its own times.
_WHEN = (1980, 1, 1, 0, 0, 0)


def member_name(text: str) -> str:
    """A part of the name of a file in an archive: never a path, and hidden nowhere."""
    return _NO_NAME.sub("_", text)[:_MOST_CHARS].strip(" .") or "_"


def file_stem(recording: Recording) -> str:
    """What files of a recording are called: by its own name, and its session's, which is unique."""
    stem = recording.file_name.rpartition(".")[0] or recording.file_name
    return f"{member_name(stem)}-{recording.session_id}"


def member(name: str, *, packed: bool = True) -> zipfile.ZipInfo:
    """An entry of an archive."""
    info = zipfile.ZipInfo(name, _WHEN)
    info.compress_type = zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED
    info.external_attr = 0o644 << 16
    return info


class Archive:
    """A file for each recording, which a writer of its own writes."""

    def __init__(
        self, out: IO[bytes], make: Callable[[IO[bytes]], Writer], *, extension: str
    ) -> None:
        self._zip = zipfile.ZipFile(out, "w")
        self._make = make
        self._extension = extension
        self._open: tuple[UUID, IO[bytes], Writer] | None = None

    def add(self, recording: Recording, events: Sequence[Event]) -> None:
        if self._open is None or self._open[0] != recording.session_id:
            self._end()
            name = f"{file_stem(recording)}.{self._extension}"
            file = self._zip.open(member(name), "w", force_zip64=True)
            self._open = recording.session_id, file, self._make(file)
        self._open[2].add(recording, events)

    def close(self) -> None:
        self._end()
        self._zip.close()

    def _end(self) -> None:
        if self._open is not None:
            _, file, writer = self._open
            writer.close()
            file.close()
            self._open = None
