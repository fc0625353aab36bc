"""What goes into an export, and what takes it."""

from __future__ import annotations

import io
import re
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import IO, Any, NamedTuple, Protocol

from actors.facts import noise_types


@dataclass(frozen=True, kw_only=True)
class Recording:
    """The recording that events are of."""

    session_id: uuid.UUID
    #: What the client called the file: never a path.
    file_name: str
    #: When it began, if anybody knows.
    recorded_at: datetime | None
    #: Samples a second; None where it was never decoded.
    rate_hz: int | None
    #: What its levels refer to: ``dBFS`` or ``dB SPL``.
    level_reference: str


class Event(NamedTuple):
    """One event, as the store has it."""

    event_index: int
    start_s: float
    end_s: float
    noise_type: str
    confidence: float
    laeq_db: float | None
    lafmax_db: float | None
    candidates: Sequence[Any] = ()

    @property
    def group(self) -> str | None:
        """The group of its noise type; None for a type that is not in the table."""
        return noise_types.group_of(self.noise_type)

    @property
    def audioset_id(self) -> str | None:
        """The first AudioSet class of its noise type; None where there is none."""
        return noise_types.audioset_id_of(self.noise_type)


class Writer(Protocol):
    """Writes one format, in bounded memory."""

    def add(self, recording: Recording, events: Sequence[Event]) -> None:
        """Write events in the order of their onsets. A recording with many of them comes several
        times, with nothing between; one without any comes once, with none."""

    def close(self) -> None:
        """Write what is left; the file that it writes to stays open."""


class Sink(io.RawIOBase):
    """Passes bytes on and counts them. It cannot seek, as no object of a store can."""

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


def iso(moment: datetime | None) -> str | None:
    """A time in UTC, as ISO 8601 has it."""
    return None if moment is None else moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


_NO_CELL = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]+")


def cell(text: str) -> str:
    """A text that is one cell of a table without quoting: what would end the cell or the line
    becomes a space, and quotation marks, which many readers take for the begin of a quoted cell,
    become apostrophes."""
    return _NO_CELL.sub(" ", text).replace('"', "'").strip() or "_"


class Names:
    """Names for recordings where a format tells them apart by nothing else: the second
    ``street.wav`` is called ``street-2.wav``."""

    def __init__(self, escape: Callable[[str], str]) -> None:
        self._escape = escape
        self._given: set[str] = set()
        self._latest: tuple[uuid.UUID, str] | None = None

    def of(self, recording: Recording) -> str:
        """The escaped name of a recording; recordings come one after the other."""
        if self._latest is None or self._latest[0] != recording.session_id:
            self._latest = recording.session_id, self._new(self._escape(recording.file_name))
        return self._latest[1]

    def _new(self, wanted: str) -> str:
        stem, dot, extension = wanted.rpartition(".")
        name, count = wanted, 1
        while name in self._given:
            count += 1
            # What it ends with stays: some readers tell the name of a file by that.
            name = f"{stem}-{count}.{extension}" if dot else f"{wanted}-{count}"
        self._given.add(name)
        return name
