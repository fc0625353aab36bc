"""Classify errors as permanent or transient, and word each for callers and for the log.

A *permanent* failure (an undecodable recording, an unknown model) ends the work item at once, with
a code and a sentence for the caller. So does a ValueError or an ArithmeticError, since the same
input would raise it again. A *transient* failure (an unavailable database, a deadline) is retried,
as is every other error, until the last attempt.

Failures of the installation do not count as attempts: the work item waits for as long as they
last. These are a blob store that is unavailable or full (the work *waits for storage*), an
unavailable database, a resolver that finds no name at all, and a worker that lacks the backbone of
the session. A lost claim is not a failure; its result is discarded.

The reason stored in a row may be shown to callers. So it never contains text of Python, a library
or the operating system; the full error is in the log.
"""

from __future__ import annotations

import errno
import random
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

import psycopg
import sqlalchemy.exc
from dramatiq.middleware import Interrupt, Shutdown, TimeLimitExceeded

from actors.outbound.errors import OutboundError, ResolverUnavailable
from actors.science.errors import ScienceError
from db.blobs.errors import BlobError, BlobMissing, StorageFull, StorageUnavailable
from db.tables.base import StoredProblem
from db.temporary_errors import is_outage, is_temporary

Row = TypeVar("Row")

#: Wait before the first retry, and the factor for each further one: the first retry comes soon, and
#: five attempts survive two minutes without a store.
RETRY_BASE_S = 2.0
RETRY_FACTOR = 4.0
RETRY_MAX_S = 300.0
#: Longest wait between attempts while the installation fails. Shorter resumes sooner after an
#: outage; longer costs workers fewer attempts that take as long as a store takes to fail.
OUTAGE_RETRY_MAX_S = 60.0
#: Longest wait between attempts while workers lack the backbone. An attempt costs a few statements,
#: and more of them reach a worker with the backbone sooner.
BACKBONE_RETRY_MAX_S = 10.0
#: Runs per row that used up no attempt and still get a row of metrics; days of them would fill the
#: table. The log has all of them.
UNCOUNTED_RUNS_KEPT = 5
#: Random share by which each wait varies, so that what failed together is not retried together.
RETRY_JITTER = 0.25
#: No row waits for longer than this after a failure.
LONGEST_DELAY_S = RETRY_MAX_S * (1 + RETRY_JITTER)
#: Maximum length of a reason in the row and in the log line.
REASON_CHARS = 300

#: The code of work whose last attempt failed.
GIVEN_UP = "given-up"
#: The code of a bug that a retry would hit again.
INTERNAL = "internal-error"

#: Errors of the operating system that mean no space is left.
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
_NO_ROOM = (*_DISK_FULL, errno.EFBIG)

#: What a run may raise. Dramatiq's ``Interrupt`` is deliberately not a subclass of ``Exception``,
#: so handlers of failures must name it.
RAISED = (Exception, Interrupt)

_random = random.SystemRandom()


class Permanent(Exception):
    """A failure that a retry cannot resolve."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.problem = StoredProblem(code=code, detail=detail)


class BackboneOnOtherWorker(Exception):
    """This worker lacks the backbone of the session; the message is for the caller."""


#: How the reasons of runs begin that took longer than allowed.
RAN_LONGER, DID_NOT_END = "it ran for longer than", "it did not end within"
OVER_THE_LIMIT = "the run exceeded its time limit"


class DeadlineExceeded(Exception):
    """A run took longer than allowed."""


class ClaimLost(Exception):
    """Another worker has claimed the row, or its session has ended; the work would be wasted."""


def still_there(row: Row | None) -> Row:
    """Return a row that was read after the claim; raises ClaimLost if it was removed since."""
    if row is None:
        raise ClaimLost
    return row


class Wait(Enum):
    """What a work item waits for without using up an attempt."""

    STORAGE = "storage"
    DATABASE = "database"
    RESOLVER = "resolver"
    BACKBONE = "backbone"

    @property
    def most_s(self) -> float:
        """The longest wait before the next attempt."""
        return BACKBONE_RETRY_MAX_S if self is Wait.BACKBONE else OUTAGE_RETRY_MAX_S


@dataclass(frozen=True)
class Failure:
    """The classification of an error."""

    #: Stored in the row, where callers may read it.
    reason: str
    #: One line for the log: the class of the error and its message.
    logged: str
    #: For the caller, if the failure is permanent; None if it is transient.
    problem: StoredProblem | None = None
    #: What the work item waits for, if the attempt does not count.
    wait: Wait | None = None

    @property
    def is_foreseen(self) -> bool:
        """Whether the reason is complete, so that the log needs no traceback."""
        if self.problem is None:
            return self.wait is Wait.BACKBONE
        return self.problem["code"] != INTERNAL


def judge(error: BaseException) -> Failure:
    """Return the classification of an error."""
    for kind, make in _PERMANENT:
        if isinstance(error, kind):
            problem = make(error)
            return Failure(reason=problem["detail"], logged=problem["detail"], problem=problem)
    logged = _one_line(f"{type(error).__name__}: {error}")
    for kinds, say in _PASSING:
        if isinstance(error, kinds):
            return Failure(reason=_one_line(say(error)), logged=logged, wait=_wait(error))
    if isinstance(error, _REPEATED):
        return Failure(reason=_FAULT["detail"], logged=logged, problem=_FAULT)
    return Failure(reason="an unexpected error; see the worker's log", logged=logged)


def _wait(error: BaseException) -> Wait | None:
    """Return what failed, if that is the installation."""
    if isinstance(error, BackboneOnOtherWorker):
        return Wait.BACKBONE
    if isinstance(error, ResolverUnavailable):
        return Wait.RESOLVER
    if isinstance(error, _OF_THE_DATABASE):
        return Wait.DATABASE if is_outage(error) else None
    is_full = isinstance(error, OSError) and error.errno in _DISK_FULL
    return Wait.STORAGE if is_full or isinstance(error, StorageUnavailable) else None


def is_late(reason: str | None) -> bool:
    """Return whether a reason is that of a run which took longer than allowed."""
    return reason is not None and reason.startswith((RAN_LONGER, DID_NOT_END, OVER_THE_LIMIT))


def given_up(name: str, *, attempts: int, reason: str | None) -> Permanent:
    """Return the failure of work after its last attempt; ``reason`` is the last stored one."""
    last = (
        f"the last error: {reason}"
        if reason
        else "none of them finished: the workers were killed or ran out of memory"
    )
    return Permanent(GIVEN_UP, f"{name} was given up after {attempts} attempts; {last}")


def delay_s(n_failures: int, *, most_s: float = RETRY_MAX_S) -> float:
    """Return how many seconds a row waits after its ``n_failures``-th failure in a row."""
    # Beyond ten failures the limit applies anyway; a huge exponent would overflow.
    wait_s = min(RETRY_BASE_S * RETRY_FACTOR ** (min(n_failures, 10) - 1), most_s)
    return wait_s * _random.uniform(1 - RETRY_JITTER, 1 + RETRY_JITTER)


def _by_itself(error: BaseException) -> StoredProblem:
    assert isinstance(error, Permanent)
    return error.problem


def _by_science(error: BaseException) -> StoredProblem:
    assert isinstance(error, ScienceError)
    return StoredProblem(code=error.code, detail=str(error))


def _missing(_error: BaseException) -> StoredProblem:
    return StoredProblem(code="recording-missing", detail="the recording is no longer stored")


def _of_the_database(error: BaseException) -> str:
    # Not the message: it may contain a statement and its values.
    if is_temporary(error):
        return "the database is unavailable or did not respond in time"
    return "the database rejected a statement"


def _of_the_system(error: BaseException) -> str:
    assert isinstance(error, OSError)
    if error.errno in _NO_ROOM:
        return "no space is left to write"
    return "a file could not be read or written, or a connection failed"


_PERMANENT: tuple[tuple[type[Exception], Callable[[BaseException], StoredProblem]], ...] = (
    (Permanent, _by_itself),
    (ScienceError, _by_science),
    (BlobMissing, _missing),
)

#: Errors that the same input raises again. Others, such as a LookupError, may not occur in another
#: worker or at a later time.
_REPEATED = (ValueError, ArithmeticError)
_FAULT = StoredProblem(
    code=INTERNAL,
    detail="this is a bug in Clamor that a retry would hit again; "
    "please report it with the line from the worker's log",
)

_OF_THE_DATABASE = (sqlalchemy.exc.SQLAlchemyError, psycopg.Error)
_PASSING: tuple[tuple[tuple[type[BaseException], ...], Callable[[BaseException], str]], ...] = (
    ((DeadlineExceeded, OutboundError, BackboneOnOtherWorker), str),
    (_OF_THE_DATABASE, _of_the_database),
    ((StorageFull,), lambda _error: "the blob store is full"),
    ((StorageUnavailable,), lambda _error: "the blob store is unavailable or rejected a request"),
    ((BlobError,), lambda _error: "a file in the blob store could not be read"),
    ((OSError,), _of_the_system),
    ((TimeLimitExceeded,), lambda _error: OVER_THE_LIMIT),
    ((Shutdown,), lambda _error: "the worker was stopped"),
)


def _one_line(what: str) -> str:
    return " ".join(what.split())[:REASON_CHARS].removesuffix(":")
