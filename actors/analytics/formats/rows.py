"""The recordings of exports, and the interface of their writers."""

from __future__ import annotations

import io
import re
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import IO, Any, NamedTuple, Protocol

from actors.facts import noise_types
from db.queries.export_queries import ExportedEvent


@dataclass(frozen=True, kw_only=True)
class ExportedRecording:
    """The recording of detections."""

    session_id: uuid.UUID
    #: The client's name for the file, never used as a path.
    file_name: str
    #: When it began, if known.
    recorded_at: datetime | None
    #: Sample rate; None if it was never decoded.
    rate_hz: int | None
    #: Indices of the channels that were analysed; empty if unknown.
    used: Sequence[int]
    #: The reference of its levels: ``dBFS`` or ``dB SPL``.
    level_reference: str


class Taxonomy(NamedTuple):
    """The place of a noise type among the others; None where it has none."""

    group: str | None
    audioset_id: str | None

    @classmethod
    def of(cls, event: ExportedEvent) -> Taxonomy:
        """Return the taxonomy of the type of a detection."""
        name = event.noise_type
        return cls(noise_types.group_of(name), noise_types.audioset_id_of(name))


class FormatWriter(Protocol):
    """Writes one format, in bounded memory."""

    def add(self, recording: ExportedRecording, events: Sequence[ExportedEvent]) -> None:
        """Write detections in the order of their onsets.

        A recording with many detections is added in several consecutive calls; one without any in
        a single call with an empty sequence.
        """

    def close(self) -> None:
        """Write the remainder. The underlying file stays open."""


class Sink(io.RawIOBase):
    """Passes bytes on and counts them. Like objects in a store, it is not seekable."""

    def __init__(self, out: IO[bytes]) -> None:
        self._out = out
        self.size_bytes = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        view = memoryview(data)
        self._out.write(view)
        self.size_bytes += view.nbytes
        return view.nbytes

    def tell(self) -> int:
        return self.size_bytes


def flag(value: bool | None) -> str:
    """Return ``true`` or ``false`` as text; empty if unknown."""
    return "" if value is None else str(value).lower()


def iso(moment: datetime | None) -> str | None:
    """Return a time in UTC in ISO 8601 format."""
    return None if moment is None else moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


_NO_CELL = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]+")


def cell(text: str) -> str:
    """Return a text as one cell of a table without quoting.

    Characters that would end the cell or the line become a space. Quotation marks, which many
    readers take for the start of a quoted cell, become apostrophes.
    """
    return _NO_CELL.sub(" ", text).replace('"', "'").strip() or "_"


class Names:
    """Unique names of recordings, for formats that identify them by name only.

    The second ``street.wav`` becomes ``street-2.wav``.
    """

    def __init__(self, escape: Callable[[str], str]) -> None:
        self._escape = escape
        self._given: set[str] = set()
        self._latest: tuple[uuid.UUID, str] | None = None

    def of(self, recording: ExportedRecording) -> str:
        """Return the escaped name of a recording. Calls for one recording are consecutive."""
        if self._latest is None or self._latest[0] != recording.session_id:
            self._latest = recording.session_id, self._new(self._escape(recording.file_name))
        return self._latest[1]

    def _new(self, wanted: str) -> str:
        stem, dot, extension = wanted.rpartition(".")
        name, count = wanted, 1
        while name in self._given:
            count += 1
            # The extension stays: some readers recognise a file name by it.
            name = f"{stem}-{count}.{extension}" if dot else f"{wanted}-{count}"
        self._given.add(name)
        return name
