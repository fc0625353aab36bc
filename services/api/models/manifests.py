"""Manifests: CSV files that label recordings.

Clips with one label each::

    file,label[,group][,start_s,end_s][,session_id]

Recordings with events, one event per line; a line without label and times names a recording
without events::

    file,onset_s,offset_s,label[,session_id]
"""

from __future__ import annotations

import csv
import io
import math
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import IO, TextIO, TypeVar

from services.http.errors import FieldError, UserError

#: Upper bound on the lines of a manifest.
MOST_ROWS = 5_000
#: Upper bound on the columns of a manifest; each must have a known name.
MOST_COLUMNS = 20
#: Upper bounds on the length of a group or file name, and of a label.
MOST_CHARS = 200
LABEL_CHARS = 64
#: Upper bounds on the length of a line, and on the lines of a row with line breaks in its cells.
MOST_LINE_CHARS = 128 * 1024
MOST_LINES_OF_ROW = 10
#: Invalid lines reported at once; after these are fixed, the next ones are reported.
MOST_TOLD = 10

CLIP_COLUMNS = {"file", "label", "group", "start_s", "end_s", "session_id"}
EVENT_COLUMNS = {"file", "label", "onset_s", "offset_s", "session_id"}


class ManifestError(UserError):
    """An invalid manifest; the message names the lines, and ``errors`` has one entry per line."""

    def __init__(self, told: str, errors: Sequence[FieldError] = ()) -> None:
        super().__init__(told)
        self.errors = list(errors) or [FieldError(field="manifest", detail=told)]


@dataclass(frozen=True)
class ClipRow:
    """A recording, or an interval of one, and its label."""

    file: str
    label: str
    source: str
    start_s: float | None
    end_s: float | None
    session_id: uuid.UUID | None


@dataclass(frozen=True)
class Recording:
    """A recording and the events in it: onset and offset in seconds, label."""

    file: str
    session_id: uuid.UUID | None
    events: tuple[tuple[float, float, str], ...]


Row = TypeVar("Row")


def parse_clips(file: IO[bytes]) -> list[ClipRow]:
    """Parse a manifest of clips; raises :class:`ManifestError`."""
    columns = _checked_columns(file)
    _check_columns(columns, CLIP_COLUMNS, needed={"file", "label"})
    return _each(_cells(file, columns), _clip)


def parse_set(file: IO[bytes]) -> list[ClipRow] | list[Recording]:
    """Parse a manifest of clips or of recordings with events; raises :class:`ManifestError`."""
    columns = _checked_columns(file)
    if "onset_s" not in columns:
        return parse_clips(file)
    _check_columns(columns, EVENT_COLUMNS, needed={"file", "label", "onset_s", "offset_s"})
    return _recordings(_each(_cells(file, columns), _event))


def _checked_columns(file: IO[bytes]) -> list[str]:
    """Read a whole manifest once, a line at a time; return its columns if its form is right."""
    rows = _rows(file)
    _, header = next(rows, (0, []))
    n_rows, wrong = 0, []
    for number, row in rows:
        n_rows += 1
        if n_rows > MOST_ROWS:
            raise ManifestError(f"the manifest must have at most {MOST_ROWS} lines")
        if len(row) != len(header):
            wrong.append(number)
    if not n_rows:
        raise ManifestError("the manifest must have a header and at least one line")
    if len(header) > MOST_COLUMNS:
        raise ManifestError(f"the manifest must have at most {MOST_COLUMNS} columns")
    if wrong:
        raise ManifestError(
            f"lines {_numbers(wrong)} of the manifest do not have {len(header)} columns"
        )
    return [cell.strip().lower()[:MOST_CHARS] for cell in header]


def _cells(file: IO[bytes], columns: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the number of each line, and its cells by column."""
    for number, row in islice(_rows(file), 1, None):
        yield number, dict(zip(columns, (cell.strip() for cell in row), strict=True))


def _rows(file: IO[bytes]) -> Iterator[tuple[int, list[str]]]:
    """Yield the lines of a manifest that are not blank, the header included, with their numbers."""
    file.seek(0)
    text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
    lines = _Lines(text)
    reader = csv.reader(lines, strict=True)
    try:
        for row in reader:
            lines.n_of_row = 0
            if any(cell.strip() for cell in row):
                yield reader.line_num, row
    except UnicodeDecodeError:
        raise ManifestError("the manifest must be UTF-8 text") from None
    except csv.Error:
        raise ManifestError(
            f"the manifest is not valid CSV at line {reader.line_num}: put cells that contain a "
            "comma or a quotation mark in quotation marks, and double those inside"
        ) from None
    finally:
        # Otherwise it would close the file, which may be closed by now.
        with suppress(ValueError):
            text.detach()


class _Lines(Iterator[str]):
    """The lines of a manifest, each within bounds."""

    def __init__(self, text: TextIO) -> None:
        self._text = text
        self._n_lines = 0
        #: Lines of the current row: a cell in quotation marks may have line breaks.
        self.n_of_row = 0

    def __next__(self) -> str:
        line = self._text.readline(MOST_LINE_CHARS + 1)
        if not line:
            raise StopIteration
        self._n_lines += 1
        self.n_of_row += 1
        if len(line) > MOST_LINE_CHARS:
            raise ManifestError(
                f"line {self._n_lines} of the manifest must have at most {MOST_LINE_CHARS}"
                " characters"
            )
        if self.n_of_row > MOST_LINES_OF_ROW:
            raise ManifestError(
                f"a cell before line {self._n_lines} of the manifest has too many line breaks"
            )
        if "\x00" in line:
            raise ManifestError("the manifest must not contain the character U+0000")
        return line


def _numbers(lines: Sequence[int]) -> str:
    told = ", ".join(map(str, lines[:MOST_TOLD]))
    return f"{told}, ..." if len(lines) > MOST_TOLD else told


def _check_columns(columns: Sequence[str], known: set[str], *, needed: set[str]) -> None:
    strange, missing = set(columns) - known, needed - set(columns)
    if len(set(columns)) != len(columns) or strange or missing:
        raise ManifestError(
            f"the manifest has the columns {', '.join(columns)}; required are "
            f"{', '.join(sorted(needed))}, optional {', '.join(sorted(known - needed))}"
        )


def _each(
    lines: Iterable[tuple[int, dict[str, str]]], parse: Callable[[dict[str, str]], Row]
) -> list[Row]:
    """Parse every line; raises one error that lists the invalid lines."""
    parsed: list[Row] = []
    wrong: list[tuple[int, str]] = []
    for number, cells in lines:
        try:
            parsed.append(parse(cells))
        except ValueError as error:
            wrong.append((number, str(error)))
    if wrong:
        more = f"; and {len(wrong) - MOST_TOLD} more" if len(wrong) > MOST_TOLD else ""
        told = wrong[:MOST_TOLD]
        raise ManifestError(
            "; ".join(f"line {number}: {reason}" for number, reason in told) + more,
            [FieldError(field=f"manifest[{number}]", detail=reason) for number, reason in told],
        )
    return parsed


def _clip(cells: dict[str, str]) -> ClipRow:
    file, session_id = _where(cells)
    start_s, end_s = _times(cells, "start_s", "end_s")
    group = _text(cells, "group", most=MOST_CHARS) if cells.get("group") else None
    return ClipRow(
        file=file,
        label=_text(cells, "label", most=LABEL_CHARS),
        source=group or (str(session_id) if session_id else file),
        start_s=start_s,
        end_s=end_s,
        session_id=session_id,
    )


def _event(cells: dict[str, str]) -> Recording:
    file, session_id = _where(cells)
    onset_s, offset_s = _times(cells, "onset_s", "offset_s")
    if onset_s is None or offset_s is None:
        if cells["label"]:
            raise ValueError("an event requires onset_s and offset_s")
        return Recording(file, session_id, ())
    label = _text(cells, "label", most=LABEL_CHARS)
    return Recording(file, session_id, ((onset_s, offset_s, label),))


def _recordings(rows: Sequence[Recording]) -> list[Recording]:
    """Merge the lines of each recording, in the order of their first occurrence."""
    together: dict[tuple[str, uuid.UUID | None], list[tuple[float, float, str]]] = {}
    for row in rows:
        together.setdefault((row.file, row.session_id), []).extend(row.events)
    recordings = [
        Recording(file, session_id, tuple(sorted(events)))
        for (file, session_id), events in together.items()
    ]
    for recording in recordings:
        by_label = sorted(recording.events, key=lambda event: (event[2], event[0]))
        for one, other in pairwise(by_label):
            if one[2] == other[2] and other[0] < one[1]:
                raise ManifestError(
                    f"{recording.file}: two {one[2]} events overlap at {other[0]:g} s"
                )
    return recordings


def _where(cells: dict[str, str]) -> tuple[str, uuid.UUID | None]:
    """Return the name to show, and the session if the audio is its recording."""
    given = cells.get("session_id")
    if not given:
        return _text(cells, "file", most=MOST_CHARS), None
    try:
        session_id = uuid.UUID(given)
    except ValueError:
        raise ValueError("session_id must be a UUID") from None
    return (_text(cells, "file", most=MOST_CHARS) if cells["file"] else given), session_id


def _text(cells: dict[str, str], column: str, *, most: int) -> str:
    value = cells[column]
    if not value:
        raise ValueError(f"{column} must not be empty")
    if len(value) > most or not value.isprintable():
        raise ValueError(f"{column} must be a single line of at most {most} characters")
    return value


def _times(cells: dict[str, str], start: str, end: str) -> tuple[float | None, float | None]:
    """Return both times, or None twice."""
    given = [cells.get(column, "") for column in (start, end)]
    if not any(given):
        return None, None
    try:
        start_s, end_s = (float(value) for value in given)
    except ValueError:
        raise ValueError(f"{start} and {end} must be seconds, or both empty") from None
    if not 0 <= start_s < end_s < math.inf:
        raise ValueError(f"{start} must be 0 or more, and {end} after it")
    return start_s, end_s


def files(rows: Sequence[ClipRow] | Sequence[Recording]) -> Iterator[str]:
    """Yield the files that must be sent with a manifest, each once."""
    yield from dict.fromkeys(row.file for row in rows if row.session_id is None)
