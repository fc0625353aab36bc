"""Errors in one place: which can pass, which cannot, and how each is told.

A *permanent* failure (a recording that cannot be decoded, a model that is not known) ends the row
A *permanent* failure (a recording that cannot be decoded, a model that is not known) ends the row
at once, with a code and a sentence for the caller. So does an error of arithmetic or of a value:
the same input would raise it again. A *passing* failure (a database that is away, a deadline) is
tried again later, and so is every other error: it is given up only after the last attempt. A blob
store that is away or full is no fault of the work: the row *waits for storage*, for as long as that
lasts, and such an attempt does not count; nor does that of a worker that lacks the backbone of the
session, which waits for a worker that has it. A claim that was lost is no failure; what was done is
thrown away.

The reason that is kept in a row may be shown to callers: it is in Clamor's own words, and has no
text of Python, a library or the operating system. The whole error is in the log.
"""

from __future__ import annotations

import errno
import random
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

import msgspec
import sqlalchemy.exc
from dramatiq.middleware import Interrupt, Shutdown, TimeLimitExceeded

from actors.outbound.errors import OutboundError
from actors.science.errors import ScienceError
from db.blobs import BlobError, BlobMissing, BlobsAway, BlobsFull

#: The first retry waits for this long, each further one this many times as long as the one
#: before: five attempts outlast a store that is away for two minutes, and the first of them comes
#: soon.
RETRY_BASE_S = 2.0
RETRY_FACTOR = 4.0
RETRY_MAX_S = 300.0
#: Work that waits for storage goes on at most this long after the store is back, and each of its
#: tries may cost a worker the time that the store takes to fail.
STORAGE_RETRY_MAX_S = 60.0
#: A try of a worker that lacks the backbone costs a few statements; the more tries there are, the
#: sooner one of the workers that have it comes.
BACKBONE_RETRY_MAX_S = 10.0
#: So many runs of a row that used up no attempt leave a row of metrics; those of days would fill
#: the table. The log has them all.
UNCOUNTED_RUNS_KEPT = 5
#: What failed together is not tried again together: each wait is longer or shorter by this share.
RETRY_JITTER = 0.25
#: How much of an error is kept in the row and in the line of the log.
REASON_CHARS = 300

#: The code of work that was tried too often.
GIVEN_UP = "given-up"
#: The code of an error of the program that another try would meet again.
INTERNAL = "internal-error"

#: Errors of the system that mean there is no room to write.
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

#: What a run may raise. Dramatiq interrupts a thread by an exception that is no ``Exception``, so
#: that nobody catches it unawares; whoever handles failures must name it.
RAISED = (Exception, Interrupt)

_random = random.SystemRandom()


class Problem(msgspec.Struct, frozen=True):
    """What was lost, for the caller to read: a stable code and a sentence."""

    code: str
    detail: str


class Permanent(Exception):
    """A failure that another try cannot mend."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.problem = Problem(code=code, detail=detail)


class BackboneElsewhere(Exception):
    """This worker lacks the backbone of the session; the message is for the caller."""


class DeadlineExceeded(Exception):
    """A run took longer than it may."""


class ClaimLost(Exception):
    """Somebody else has the row by now, or its session has ended: the work would be in vain."""


class Wait(Enum):
    """What work waits for through no fault of its own: such a claim does not count."""

    STORAGE = "storage"
    BACKBONE = "backbone"

    @property
    def most_s(self) -> float:
        """How long it waits at most before it is tried again."""
        return STORAGE_RETRY_MAX_S if self is Wait.STORAGE else BACKBONE_RETRY_MAX_S


@dataclass(frozen=True)
class Failure:
    """What an error stands for."""

    #: For the row, where callers may read it.
    reason: str
    #: One line for the log: the name of the error and its text.
    logged: str
    #: For the caller, if another try cannot mend it; None if it may pass.
    problem: Problem | None = None
    #: What the work waits for, if the attempt does not count.
    wait: Wait | None = None

    @property
    def is_foreseen(self) -> bool:
        """Whether its reason says all: the log needs no traceback."""
        if self.problem is None:
            return self.wait is Wait.BACKBONE
        return self.problem.code != INTERNAL


def judge(error: BaseException) -> Failure:
    """Return whether an error can pass, and the words in which it is kept."""
    for kind, make in _PERMANENT:
        if isinstance(error, kind):
            problem = make(error)
            return Failure(reason=problem.detail, logged=problem.detail, problem=problem)
    logged = _one_line(f"{type(error).__name__}: {error}")
    for kinds, say in _PASSING:
        if isinstance(error, kinds):
            return Failure(
                reason=_one_line(say(error)),
                logged=logged,
                wait=next((wait for kind, wait in _WAITS if isinstance(error, kind)), None),
            )
    if isinstance(error, _REPEATED):
        return Failure(reason=_FAULT.detail, logged=logged, problem=_FAULT)
    return Failure(reason="an unexpected error, which the log of its worker has", logged=logged)


def given_up(name: str, *, attempts: int, reason: str | None) -> Permanent:
    """The end of work that was tried too often. ``reason`` is the last one that was kept."""
    last = (
        f"the last error: {reason}"
        if reason
        else "none of them came to its end: its workers were killed, or ran out of memory"
    )
    return Permanent(GIVEN_UP, f"{name} was given up after {attempts} attempts; {last}")


def delay_s(n_failures: int, *, most_s: float = RETRY_MAX_S) -> float:
    """Return how many seconds a row waits after its ``n_failures``-th failure in a row."""
    # Beyond ten the bound holds, and the power of thousands is no number any more.
    wait_s = min(RETRY_BASE_S * RETRY_FACTOR ** (min(n_failures, 10) - 1), most_s)
    return wait_s * _random.uniform(1 - RETRY_JITTER, 1 + RETRY_JITTER)


def _by_itself(error: BaseException) -> Problem:
    assert isinstance(error, Permanent)
    return error.problem


def _by_science(error: BaseException) -> Problem:
    assert isinstance(error, ScienceError)
    return Problem(code=error.code, detail=str(error))


def _missing(_error: BaseException) -> Problem:
    return Problem(code="recording-missing", detail="the recording is no longer stored")


def _of_the_system(error: BaseException) -> str:
    assert isinstance(error, OSError)
    if error.errno in _NO_ROOM:
        return "there is no room left to write"
    return "a file could not be read or written, or a connection failed"


_PERMANENT: tuple[tuple[type[Exception], Callable[[BaseException], Problem]], ...] = (
    (Permanent, _by_itself),
    (ScienceError, _by_science),
    (BlobMissing, _missing),
)

#: What the same input raises again. Others, such as a LookupError, may be over in another worker or
#: at a later moment.
_REPEATED = (ValueError, ArithmeticError)
_FAULT = Problem(
    code=INTERNAL,
    detail="Clamor made an error that it would repeat, so this was not tried again; "
    "please report it with the line of the worker's log",
)

_PASSING: tuple[tuple[tuple[type[BaseException], ...], Callable[[BaseException], str]], ...] = (
    ((DeadlineExceeded, OutboundError, BackboneElsewhere), str),
    (
        (
            sqlalchemy.exc.OperationalError,
            sqlalchemy.exc.InterfaceError,
            sqlalchemy.exc.TimeoutError,
        ),
        lambda _error: "the database is away, or did not answer in time",
    ),
    # Statements and their values stand in the text of every other error of the database.
    ((sqlalchemy.exc.SQLAlchemyError,), lambda _error: "the database refused a statement"),
    ((BlobsFull,), lambda _error: "there is no room left in the blob store"),
    ((BlobsAway,), lambda _error: "the blob store is away, or refused a request"),
    ((BlobError,), lambda _error: "a file in the blob store could not be read"),
    ((OSError,), _of_the_system),
    ((TimeLimitExceeded,), lambda _error: "it ran for longer than it may"),
    ((Shutdown,), lambda _error: "its worker was stopped"),
)

_WAITS = ((BlobsAway, Wait.STORAGE), (BackboneElsewhere, Wait.BACKBONE))


def _one_line(what: str) -> str:
    return " ".join(what.split())[:REASON_CHARS].removesuffix(":")
