"""``clamor restore check``: what a restored database lacks, and what lacks a row in it.

It addresses the database and the blob store directly, so that it needs neither API nor workers.
"""

from __future__ import annotations

import sys
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import msgspec
from rich.console import Console
from rich.table import Table

from actors.messaging.messages import CleanUp
from db import ownership
from db.blobs.blob_store import Blobs
from db.blobs.errors import BlobError
from db.queries import job_run_queries, restore_queries
from db.queries.restore_queries import FoundRecording, NeededAudio
from db.settings import Settings
from db.store import Store
from services.cli.actions import accounts, comparison, targets
from services.cli.actions.comparison import Differences, OnProgress
from services.http.errors import UserError

#: Sessions added per transaction.
PAGE_ROWS = 100
#: Files between two lines of progress in a log.
LOGGED_FILES = 10_000


class ListedRecording(msgspec.Struct, kw_only=True):
    """A session without its recording, or a recording without its session."""

    session_id: uuid.UUID
    key: str
    size_bytes: int | None
    #: The state of the session; None without one.
    state: str | None = None


class Recordings(msgspec.Struct, kw_only=True):
    """A number of recordings, their bytes, and the first of them."""

    count: int
    size_bytes: int
    first: list[ListedRecording]


class RestoreCheck(msgspec.Struct, kw_only=True):
    """What ``--json`` prints."""

    sessions: int
    #: Sessions without their recording: unfinished ones fail; ended ones keep their answer.
    unfinished_without_recording: Recordings
    ended_without_recording: Recordings
    #: Recordings without a session: adopted with ``--adopt``, except the young ones.
    without_session: Recordings
    young_without_session: Recordings
    #: Recordings that an open batch will make sessions of.
    awaited_of_batches: int
    #: How many sessions were added; None without ``--adopt``.
    adopted: int | None
    #: Why ``--adopt`` is refused; None if it is not.
    refusal: str | None

    @property
    def agrees(self) -> bool:
        """Whether database and blob store agree."""
        parts = (
            self.unfinished_without_recording,
            self.ended_without_recording,
            self.young_without_session,
        )
        n_left = self.without_session.count - (self.adopted or 0)
        return not n_left and not any(part.count for part in parts)


def check(
    settings: Settings, *, adopt: bool, user: str | None, privacy: str, limit: int, as_json: bool
) -> int:
    """Compare sessions and recordings, adopt if asked, and print the result; return 1 if they do
    not agree.

    Raises
    ------
    UserError
        If ``adopt`` lacks a user or is refused, or the blob store does not answer.
    """
    if adopt and user is None:
        raise UserError("--adopt needs the owner of the new sessions: --user EMAIL|USER_ID")
    blobs = Blobs.of(settings)
    try:
        with targets.store(settings) as store:
            owner = accounts.find_user_id(store, user) if adopt and user else None
            found_owner = ownership.of_blobs(blobs)
            refusal = ownership.objection(ownership.of_database(store), found_owner)
            if owner is not None and refusal is not None:
                raise UserError(refusal)
            with _progress() as on_progress:
                found = comparison.compare(store, blobs, settings, on_progress=on_progress)
                adopted = None
                if owner is not None:
                    if found_owner is None:
                        ownership.take(store, blobs, is_restored=True)
                    adopted = _adopt(store, found, owner, privacy=privacy, on_progress=on_progress)
    except BlobError as error:
        raise UserError(f"the blob store cannot be read: {error}; check BLOB_URL") from error
    report = _report(found, adopted=adopted, refusal=refusal, limit=limit)
    if as_json:
        print(msgspec.json.encode(report).decode())
    else:
        _show(report, settings)
    return 0 if report.agrees else 1


def _adopt(
    store: Store, found: Differences, owner: uuid.UUID, *, privacy: str, on_progress: OnProgress
) -> int:
    """Add a session for each recording without one; return their number.

    Recovery sends their messages, no more than the workers can take.

    Raises
    ------
    UserError
        While ``clean_up`` runs, which may be removing one of them at this moment. A later run finds
        none of their marks.
    """
    pages = [
        found.unknown[start : start + PAGE_ROWS]
        for start in range(0, len(found.unknown), PAGE_ROWS)
    ]
    for page in pages:
        with store.transaction() as tx:
            restore_queries.forget_marks(tx, (each.session_id for each in page))
    with store.transaction() as tx:
        if pages and job_run_queries.is_active(tx, CleanUp.actor):
            raise UserError(
                f"{CleanUp.actor} is running, and may be removing files without a row: wait for"
                " its end (see clamor schedule), then run this again"
            )
    adopted = 0
    for page in pages:
        with store.transaction() as tx:
            adopted += restore_queries.adopt(tx, page, user_id=owner, privacy=privacy)
        on_progress("sessions added", adopted)
    return adopted


@contextmanager
def _progress() -> Iterator[OnProgress]:
    """Yield what shows progress on standard error: a line at a terminal, some in a log."""
    console = Console(file=sys.stderr)
    n_lines = 0
    with console.status("comparing database and blob store") as status:

        def on_progress(what: str, n: int) -> None:
            nonlocal n_lines
            status.update(f"{n} {what}")
            if not console.is_terminal and n // LOGGED_FILES != n_lines:
                n_lines = n // LOGGED_FILES
                if n_lines:
                    console.print(f"{n} {what}", highlight=False)

        yield on_progress


def _report(
    found: Differences, *, adopted: int | None, refusal: str | None, limit: int
) -> RestoreCheck:
    return RestoreCheck(
        sessions=found.n_sessions,
        unfinished_without_recording=_part(
            [row for row in found.missing if row.is_unfinished], limit
        ),
        ended_without_recording=_part(
            [row for row in found.missing if not row.is_unfinished], limit
        ),
        without_session=_part(found.unknown, limit),
        young_without_session=_part(found.young, limit),
        awaited_of_batches=found.n_awaited,
        adopted=adopted,
        refusal=refusal,
    )


def _part(rows: Sequence[NeededAudio | FoundRecording], limit: int) -> Recordings:
    return Recordings(
        count=len(rows),
        size_bytes=sum(row.size_bytes or 0 for row in rows),
        first=[
            ListedRecording(
                session_id=row.session_id,
                key=row.key or "",
                size_bytes=row.size_bytes,
                state=row.state if isinstance(row, NeededAudio) else None,
            )
            for row in rows[:limit]
        ],
    )


def _show(report: RestoreCheck, settings: Settings) -> None:
    young = f"recordings without a session, younger than {settings.orphan_s:g} s"
    parts = {
        "unfinished sessions without their recording": report.unfinished_without_recording,
        "ended sessions without their recording": report.ended_without_recording,
        "recordings without a session": report.without_session,
        young: report.young_without_session,
    }
    overview = Table("", "number", "MB", title=f"sessions in the database: {report.sessions}")
    for name, part in parts.items():
        overview.add_row(name, str(part.count), f"{part.size_bytes / 1e6:.1f}")
    console = Console()
    console.print(overview)
    for name, part in parts.items():
        if part.count:
            print(f"\n{name}{_of_all(part)}:")
            for each in part.first:
                print(f"  {each.key}" + (f"  ({each.state})" if each.state else ""))
    print()
    for line in _advice(report):
        print(line)


def _of_all(part: Recordings) -> str:
    return f", the first {len(part.first)} of {part.count}" if part.count > len(part.first) else ""


def _advice(report: RestoreCheck) -> Iterator[str]:
    """Yield what to do next, a line each."""
    if report.adopted is not None:
        yield f"Sessions added: {report.adopted}. The workers process them."
    elif report.without_session.count:
        yield "To make sessions of them: clamor restore check --adopt --user EMAIL"
    if report.young_without_session.count:
        yield (
            "The rows of young recordings may be about to follow. Run this again later or, while"
            " no API runs, with CLAMOR_ORPHAN_S=1."
        )
    if report.awaited_of_batches:
        yield f"{report.awaited_of_batches} more recordings will get their session by their batch."
    if report.refusal is not None:
        yield f"--adopt is refused: {report.refusal}"
    if report.agrees:
        yield "Database and blob store agree."
