"""How every step of the pipeline is run: claim, work, commit behind the fence, nudge.

An actor tells :func:`run` how to claim a row, and what step that row is at. Most claim whichever
row is next (:mod:`db.turns`), and not the one that the message names: a message only says that
there is one more. The work runs outside any transaction, under a lease that a thread renews. Its
result is a :class:`Outcome`: what to write, and whom to nudge once that is committed.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import msgspec
import structlog
from sqlalchemy.orm import Session

from actors.messages import Nudge
from actors.runtime import Runtime
from actors.science.errors import ScienceError
from db import claims, queries
from db.blobs import BlobMissing
from db.claims import SomeUnit, Take, Unit

log = structlog.get_logger(__name__)

#: The first retry waits for this long, each further one twice as long as the one before.
RETRY_BASE_S = 2.0
RETRY_MAX_S = 300.0
#: The lease is renewed this many times before it would end.
RENEWALS_PER_LEASE = 3
#: How much of an error is kept in the row.
ERROR_CHARS = 500


class Problem(msgspec.Struct, frozen=True):
    """What was lost, for the caller to read: a stable code and a sentence."""

    code: str
    detail: str


class Permanent(Exception):
    """A failure that another try cannot mend."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.problem = Problem(code=code, detail=detail)


#: Writes in one transaction, behind the fence that the number of the attempt is. Returns the
#: nudges to send after the commit, or None if the claim was lost.
Write = Callable[[Session, int], Sequence[Nudge] | None]
#: The same for a failure.
GiveUp = Callable[[Session, int, Problem], Sequence[Nudge] | None]


@dataclass(frozen=True)
class Outcome:
    """What a step found: how to write it down.

    ``unused_keys`` are blobs that nobody needs if the claim was lost.
    """

    write: Write
    unused_keys: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step of the pipeline, on a row that was claimed."""

    name: str
    work: Unit
    #: Does the work; is given the number of the attempt.
    perform: Callable[[int], Outcome]
    #: Writes the failure that ends the row's life.
    give_up: GiveUp


def move_on(work: Unit, *, to: str, values: dict[str, Any], then: Sequence[Nudge] = ()) -> Write:
    """A ``write`` that brings a session or a job to its next state."""

    def write(db: Session, attempt: int) -> Sequence[Nudge] | None:
        moved = claims.advance(db, work, attempt=attempt, to=to, values=values)
        return then if moved else None

    return write


def fail(work: Unit) -> GiveUp:
    """A ``give_up`` that ends a session or a job."""

    def give_up(db: Session, attempt: int, problem: Problem) -> Sequence[Nudge] | None:
        values = {"problem": msgspec.to_builtins(problem)}
        return move_on(work, to="failed", values=values)(db, attempt)

    return give_up


def run(
    runtime: Runtime, nudge: Nudge, take: Take[SomeUnit], step_of: Callable[[SomeUnit], Step]
) -> None:
    """Claim a row and run the step that it is at, if there is one to be had.

    Whatever the step raises ends here: a permanent failure is written down, a passing one is
    tried again later by the row's own clock. Only a failure to reach Postgres itself leaves this
    function; then the lease ends by itself and the steward nudges.
    """
    settings = runtime.settings
    started = time.monotonic()
    with runtime.store.transaction() as db:
        claim = take(db, lease_s=settings.lease_s)
    if claim is None:
        log.info("step_finished", actor=nudge.actor, **nudge.payload(), result="nothing_to_do")
        return
    step, attempt = step_of(claim.work), claim.attempt
    names = {name: _loggable(value) for name, value in step.work.names.items()}
    bound = log.bind(step=step.name, **names, attempt=attempt)
    try:
        if attempt > settings.max_attempts:
            raise Permanent(
                "given-up", f"{step.name} was given up after {settings.max_attempts} attempts"
            )
        with _lease(runtime, step.work, attempt):
            outcome = step.perform(attempt)
        result = _commit(runtime, step, attempt, started, outcome)
    except Exception as error:
        result = _fail(runtime, step, attempt, started, error)
    bound.log(
        _LEVELS[result], "step_finished", result=result,
        duration_s=round(time.monotonic() - started, 3),
    )  # fmt: skip


def _loggable(value: object) -> object:
    return str(value) if isinstance(value, uuid.UUID) else value


_LEVELS = {"done": 20, "superseded": 20, "retried": 30, "failed": 30, "given_up": 50}


def _commit(runtime: Runtime, step: Step, attempt: int, started: float, outcome: Outcome) -> str:
    with runtime.store.transaction() as db:
        nudges = outcome.write(db, attempt)
        result = "superseded" if nudges is None else "done"
        _record(db, step, attempt, started, result)
    if nudges is None:
        runtime.blobs.delete(*outcome.unused_keys)
    else:
        runtime.publisher.send(*nudges)
    return result


def _fail(runtime: Runtime, step: Step, attempt: int, started: float, error: Exception) -> str:
    """Write a failure down: for good if it is permanent, else with the time of the next try."""
    problem = _permanent(error)
    nudges: Sequence[Nudge] | None = None
    with runtime.store.transaction() as db:
        if problem is not None:
            nudges = step.give_up(db, attempt, problem)
            result = "given_up" if problem.code == "given-up" else "failed"
            held = nudges is not None
        else:
            log.warning("step_error", step=step.name, exc_info=error)
            held = claims.retry_later(
                db,
                step.work,
                attempt=attempt,
                delay_s=min(RETRY_BASE_S * 2 ** (attempt - 1), RETRY_MAX_S),
                error=f"{type(error).__name__}: {error}"[:ERROR_CHARS],
            )
            result = "retried"
        result = result if held else "superseded"
        _record(db, step, attempt, started, result)
    runtime.publisher.send(*(nudges or ()))
    return result


def _permanent(error: Exception) -> Problem | None:
    """The problem that an error stands for, or None if it may pass."""
    if isinstance(error, Permanent):
        return error.problem
    if isinstance(error, ScienceError):
        return Problem(code=error.code, detail=str(error))
    if isinstance(error, BlobMissing):
        return Problem(code="recording-missing", detail="the recording is no longer stored")
    return None


def _record(db: Session, step: Step, attempt: int, started: float, result: str) -> None:
    queries.add_metric(
        db,
        step.work,
        step=step.name,
        attempt=attempt,
        result=result,
        duration_s=time.monotonic() - started,
    )


@contextmanager
def _lease(runtime: Runtime, work: Unit, attempt: int) -> Iterator[None]:
    """Renew the claim while the block runs, up to the deadline.

    Past the deadline the lease is left to end: the work is given to somebody else, and what this
    worker may still write fails at the fence.
    """
    settings = runtime.settings
    finished = threading.Event()
    renewals = int(settings.deadline_s / settings.lease_s * RENEWALS_PER_LEASE)

    def renew() -> None:
        for _ in range(renewals):
            if finished.wait(settings.lease_s / RENEWALS_PER_LEASE):
                return
            try:
                with runtime.store.transaction() as db:
                    if not claims.extend_lease(db, work, attempt=attempt, lease_s=settings.lease_s):
                        return
            except Exception as error:
                # Postgres is away: the next renewal may come in time.
                log.warning("lease_not_renewed", error=type(error).__name__)

    thread = threading.Thread(target=renew, name="lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        finished.set()
        thread.join()
