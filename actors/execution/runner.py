"""How every step of the pipeline is run: claim, work, commit behind the fence, nudge.

An actor tells :func:`run` how to claim a row, and what step that row is at. Most claim whichever
row is next (:mod:`db.queue.fair_order`), and not the one that the message names: a message only
says that there is one more. The work runs outside any transaction, under a lease that a thread
renews, and asks its :class:`Lease` now and then whether to go on. Its result is a :class:`Outcome`:
what to write, and whom to nudge once that is committed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import structlog
from sqlalchemy.orm import Session

from actors.execution import failures, run_log, watchdog
from actors.execution.failures import ClaimLost, Failure, Problem, Wait
from actors.execution.lease import Lease
from actors.execution.run_log import Run
from actors.execution.runtime import Runtime
from actors.messaging.messages import Nudge
from actors.observability import tracing
from db.queries import session_queries
from db.queue import claims
from db.queue.claims import SomeUnit, Take, Unit

log = structlog.get_logger(__name__)

#: Writes in one transaction, behind the fence that the number of the attempt is. Returns the
#: nudges to send after the commit, or None if the claim was lost.
Write = Callable[[Session, int], Sequence[Nudge] | None]
#: The same for a failure.
GiveUp = Callable[[Session, int, Problem], Sequence[Nudge] | None]


@dataclass(frozen=True)
class Outcome:
    """What a step found: how to write it down, and what the run is called then."""

    write: Write
    result: str = "done"


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step of the pipeline, on a row that was claimed."""

    name: str
    work: Unit
    #: Does the work; is given the claim, to ask whether to go on.
    perform: Callable[[Lease], Outcome]
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
    tried again later by the row's own clock. If Postgres cannot be reached to write that, the
    lease ends by itself and recovery nudges.
    """
    settings = runtime.settings
    with run_log.recorded(nudge.actor, **nudge.payload()) as run:
        with runtime.store.transaction() as db:
            claim = take(db, lease_s=settings.lease_s)
            traceparent = claims.traceparent(db, claim.work) if claim and tracing.is_on() else None
        if claim is None:
            run.end("nothing_to_do")
            return
        step = step_of(claim.work)
        run.holds(claim.attempt, claim.work.names, traceparent=traceparent)
        lease = Lease(
            runtime.store,
            step.work,
            attempt=claim.attempt,
            uncounted=claim.uncounted,
            lease_s=settings.lease_s,
            deadline_s=watchdog.deadline_s(type(nudge), settings),
        )
        outcome = None
        try:
            outcome = _perform(runtime, step, run, lease)
            _commit(runtime, step, run, lease, outcome)
        except failures.RAISED as error:
            # A commit that failed may have been done all the same: what it speaks of is kept.
            _fail(runtime, step, run, lease, error, may_be_written=outcome is not None)


def _perform(runtime: Runtime, step: Step, run: Run, lease: Lease) -> Outcome:
    """Do the work, unless it was tried so often that it may be what kills its workers."""
    if lease.counted > runtime.settings.max_attempts:
        with runtime.store.transaction() as db:
            reason = claims.last_error(db, step.work)
        raise failures.given_up(step.name, attempts=lease.counted - 1, reason=reason)

    def give_back(reason: str) -> None:
        with runtime.store.transaction() as db:
            _retry_later(db, step, lease, Failure(reason=reason, logged=reason))

    with runtime.watchdog.over(run, lease.deadline_s, give_back), lease:
        return step.perform(lease)


def _commit(runtime: Runtime, step: Step, run: Run, lease: Lease, outcome: Outcome) -> None:
    with runtime.store.transaction() as db:
        nudges = outcome.write(db, lease.attempt)
        result = outcome.result if nudges is not None else _lost(db, step)
        _record(db, step, run, result)
    if nudges is None:
        _discard(runtime, lease)
    else:
        runtime.publisher.send(*nudges)
    run.end(result)


def _fail(
    runtime: Runtime,
    step: Step,
    run: Run,
    lease: Lease,
    error: BaseException,
    *,
    may_be_written: bool,
) -> None:
    """Write a failure down: for good if it is permanent, else with the time of the next try."""
    failure = failures.judge(error)
    problem = failure.problem
    is_last = lease.counted >= runtime.settings.max_attempts and failure.wait is None
    if problem is None and is_last:
        problem = failures.given_up(
            step.name, attempts=lease.counted, reason=failure.reason
        ).problem
    nudges: Sequence[Nudge] | None = None
    try:
        with runtime.store.transaction() as db:
            if isinstance(error, ClaimLost):
                held = False
            elif problem is not None:
                nudges = step.give_up(db, lease.attempt, problem)
                held = nudges is not None
            else:
                held = _retry_later(db, step, lease, failure)
            result = _failed(problem) if held else _lost(db, step)
            if failure.wait is None or lease.uncounted < failures.UNCOUNTED_RUNS_KEPT:
                _record(db, step, run, result)
        may_be_written = may_be_written and not held
    finally:
        if not may_be_written:
            _discard(runtime, lease)
    runtime.publisher.send(*(nudges or ()))
    if not held:
        run.end(result)
    else:
        run.end(result, error=failure.logged, raised=None if failure.is_foreseen else error)


def _failed(problem: Problem | None) -> str:
    if problem is None:
        return "retried"
    return "given_up" if problem.code == failures.GIVEN_UP else "failed"


def _lost(db: Session, step: Step) -> str:
    """What to call a run whose claim was lost."""
    return "cancelled" if claims.is_cancelled(db, step.work) else "superseded"


#: How a claim is given back, by what the work waits for.
_GIVE_BACK = {
    None: claims.retry_later,
    Wait.STORAGE: claims.wait_for_storage,
    Wait.BACKBONE: claims.wait_for_backbone,
}


def _retry_later(db: Session, step: Step, lease: Lease, failure: Failure) -> bool:
    give_back = _GIVE_BACK[failure.wait]
    if failure.wait is None:
        delay_s = failures.delay_s(lease.counted)
    else:
        delay_s = failures.delay_s(lease.uncounted + 1, most_s=failure.wait.most_s)
    return give_back(db, step.work, attempt=lease.attempt, delay_s=delay_s, error=failure.reason)


def _discard(runtime: Runtime, lease: Lease) -> None:
    """Remove what an attempt wrote in vain. Recovery removes what stays behind here."""
    try:
        runtime.blobs.delete(*lease.keys)
    except Exception as error:
        log.warning("blobs_not_removed", keys=lease.keys, error=type(error).__name__)


def _record(db: Session, step: Step, run: Run, result: str) -> None:
    assert run.attempt is not None
    session_queries.add_metric(
        db,
        step.work,
        step=step.name,
        attempt=run.attempt,
        result=result,
        duration_s=run.duration_s,
    )
