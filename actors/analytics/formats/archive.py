"""A ZIP archive with a file for each recording, written sequentially."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Sequence
from typing import IO
from uuid import UUID

from actors.analytics.formats.rows import ExportedRecording, FormatWriter
from db.queries.export_queries import ExportedEvent

#: Characters that are not valid in file names everywhere. They become underscores.
_NO_NAME = re.compile(r"[^\w.()\[\]+ -]")
_MOST_CHARS = 80
#: The earliest time of the format, for all members: the content has its own times.
_WHEN = (1980, 1, 1, 0, 0, 0)


def member_name(text: str) -> str:
    """Return a text as part of a file name in an archive: never a path or a hidden file."""
    return _NO_NAME.sub("_", text)[:_MOST_CHARS].strip(" .") or "_"


def file_stem(recording: ExportedRecording) -> str:
    """Return the stem for files of a recording: its name and its session's ID, so it is unique."""
    stem = recording.file_name.rpartition(".")[0] or recording.file_name
    return f"{member_name(stem)}-{recording.session_id}"


def member(name: str, *, packed: bool = True) -> zipfile.ZipInfo:
    """Return the header of an archive member."""
    info = zipfile.ZipInfo(name, _WHEN)
    info.compress_type = zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED
    info.external_attr = 0o644 << 16
    return info


class Archive:
    """A file for each recording, each with its own writer."""

    def __init__(
        self, out: IO[bytes], make: Callable[[IO[bytes]], FormatWriter], *, extension: str
    ) -> None:
        self._zip = zipfile.ZipFile(out, "w")
        self._make = make
        self._extension = extension
        self._open: tuple[UUID, IO[bytes], FormatWriter] | None = None

    def add(self, recording: ExportedRecording, events: Sequence[ExportedEvent]) -> None:
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
