"""Run a task: claim a row, work on it, commit behind the fence, nudge.

An actor passes :func:`run` a function that claims a row and one that returns the task of that row.
Most actors claim the row that is next (:mod:`db.queue.fair_order`), not the one in the message: a
message only means that there is one more. The work runs outside any transaction, under a lease
that a thread renews, and checks its :class:`Lease` from time to time. Its :class:`Result` is a
function that writes it and returns the nudges to send after the commit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from actors.execution import failures, run_log, watchdog
from actors.execution.failures import ClaimLost, Failure, Wait
from actors.execution.lease import Lease
from actors.execution.run_log import ActorRun
from actors.execution.runtime import Runtime
from actors.messaging.messages import Nudge
from actors.observability import tracing
from db.queries import session_queries
from db.queries.session_queries import StepRun
from db.queue import claims
from db.queue.claims import SomeItem, Take, WorkItem
from db.statements import NothingChanged, sent_together
from db.tables.base import JsonObject, StoredProblem
from db.temporary_errors import is_outage

log = structlog.get_logger(__name__)

#: Writes in one transaction, fenced by the attempt number. Returns the nudges to send after the
#: commit, or None if the claim was lost.
Write = Callable[[Session, int], Sequence[Nudge] | None]
#: The same for a failure.
GiveUp = Callable[[Session, int, StoredProblem], Sequence[Nudge] | None]


@dataclass(frozen=True)
class Result:
    """The result of a task: a function that writes it, and its outcome in the log."""

    write: Write
    outcome: str = "done"
    #: The steps that the same claim did after its own.
    steps: Sequence[StepRun] = ()
    #: Called after the commit, unless the claim was lost: for metrics.
    committed: Callable[[], None] | None = None
    #: All statements of ``write`` are compiled, and are sent together.
    together: bool = False


@dataclass(frozen=True, kw_only=True)
class Task:
    """What to do with a claimed row."""

    name: str
    work: WorkItem
    #: Does the work. Takes the lease, to check that the claim is still held.
    perform: Callable[[Lease], Result]
    #: Writes the failure that ends the row.
    give_up: GiveUp


def move_on(work: WorkItem, *, to: str, values: JsonObject, then: Sequence[Nudge] = ()) -> Write:
    """Return a ``write`` that moves a session or a job to its next state."""

    def write(tx: Session, attempt: int) -> Sequence[Nudge] | None:
        moved = claims.advance(tx, work, attempt=attempt, to=to, values=values)
        return then if moved else None

    return write


def fail(work: WorkItem) -> GiveUp:
    """Return a ``give_up`` that ends a session or a job."""

    def give_up(tx: Session, attempt: int, problem: StoredProblem) -> Sequence[Nudge] | None:
        return move_on(work, to="failed", values={"problem": problem})(tx, attempt)

    return give_up


def run(
    runtime: Runtime,
    nudge: Nudge,
    take: Take[SomeItem],
    task_of: Callable[[SomeItem], Task],
    *,
    in_one_statement: bool = False,
) -> None:
    """Claim a row, if one is available, and run its task.

    ``in_one_statement``: ``take`` is a single statement, which needs no transaction around it.

    Exceptions of the task are caught here: a permanent failure is stored, a passing one is retried
    when the row is due again. If Postgres is unavailable for that, recovery gives the claim back
    later, or its lease expires.
    """
    settings = runtime.settings
    with run_log.recorded(nudge.actor, **nudge.payload()) as run:
        store = runtime.store
        with store.one_statement() if in_one_statement else store.transaction() as tx:
            claim = take(tx, lease_s=settings.lease_s)
            traceparent = claims.traceparent(tx, claim.work) if claim and tracing.is_on() else None
        if claim is None:
            run.end("nothing_to_do")
            return
        task = task_of(claim.work)
        run.holds(claim.attempt, claim.work.names, traceparent=traceparent)
        lease = Lease(
            store,
            task.work,
            attempt=claim.attempt,
            uncounted=claim.uncounted,
            times=claim.times,
            lease_s=settings.lease_s,
            deadline_s=watchdog.deadline_s(type(nudge), settings),
        )
        runtime.turns.begun(lease)
        result = None
        try:
            result = _perform(runtime, task, run, lease)
            _commit(runtime, task, run, lease, result)
        except failures.RAISED as error:
            # A commit that raised may still have succeeded: the blobs that it names are kept.
            may_be_written = result is not None and not isinstance(error, ClaimLost)
            _fail(runtime, task, run, lease, error, may_be_written=may_be_written)


def _perform(runtime: Runtime, task: Task, run: ActorRun, lease: Lease) -> Result:
    """Do the work, unless it has used up its attempts: it may be what kills its workers."""
    if lease.counted > runtime.settings.max_attempts:
        with runtime.store.transaction() as tx:
            reason = claims.last_error(tx, task.work)
        raise failures.given_up(task.name, attempts=lease.counted - 1, reason=reason)

    def give_back(reason: str) -> None:
        with runtime.store.transaction() as tx:
            if _is_late_again(tx, task, reason):
                task.give_up(tx, lease.attempt, _given_up(task, lease, reason))
            else:
                _retry_later(tx, task, lease, Failure(reason=reason, logged=reason))

    with runtime.watchdog.over(run, lease.deadline_s, give_back) as lease.clock, lease:
        return task.perform(lease)


def _commit(runtime: Runtime, task: Task, run: ActorRun, lease: Lease, result: Result) -> None:
    with runtime.store.transaction() as tx, _sending(tx, together=result.together):
        nudges = result.write(tx, lease.attempt)
        outcome = result.outcome if nudges is not None else _lost(tx, task)
        _record(tx, task, run, outcome, result.steps if nudges is not None else ())
    if nudges is None:
        discard(runtime, lease)
    else:
        runtime.publisher.send(*nudges)
        if result.committed is not None:
            result.committed()
    run.end(outcome)


@contextmanager
def _sending(tx: Session, *, together: bool) -> Iterator[None]:
    """Send the statements of a block, together if wanted.

    Raises
    ------
    ClaimLost
        If one of them that is behind the fence has changed nothing. One by one they return this.
    """
    if not together:
        yield
        return
    try:
        with sent_together(tx):
            yield
    except NothingChanged:
        raise ClaimLost from None


def _fail(
    runtime: Runtime,
    task: Task,
    run: ActorRun,
    lease: Lease,
    error: BaseException,
    *,
    may_be_written: bool,
) -> None:
    """Store a failure: as final if it is permanent, else with the time of the next try."""
    failure = failures.judge(error)
    problem = failure.problem
    is_last = lease.counted >= runtime.settings.max_attempts and failure.wait is None
    nudges: Sequence[Nudge] | None = None
    try:
        with runtime.store.transaction() as tx:
            if problem is None and (is_last or _is_late_again(tx, task, failure.reason)):
                problem = _given_up(task, lease, failure.reason)
            if isinstance(error, ClaimLost):
                held = False
            elif problem is not None:
                nudges = task.give_up(tx, lease.attempt, problem)
                held = nudges is not None
            else:
                held = _retry_later(tx, task, lease, failure)
            outcome = _failed(problem) if held else _lost(tx, task)
            if failure.wait is None or lease.uncounted < failures.UNCOUNTED_RUNS_KEPT:
                _record(tx, task, run, outcome)
        may_be_written = may_be_written and not held
    except SQLAlchemyError as unwritten:
        if is_outage(unwritten):
            runtime.unreturned.add(task.work, attempt=lease.attempt)
        raise
    finally:
        if not may_be_written:
            discard(runtime, lease)
    runtime.publisher.send(*(nudges or ()))
    if not held:
        run.end(outcome)
    else:
        run.end(outcome, error=failure.logged, raised=None if failure.is_foreseen else error)


def _is_late_again(tx: Session, task: Task, reason: str) -> bool:
    """Return whether a run, like the one before, took longer than allowed: so will the next."""
    return failures.is_late(reason) and failures.is_late(claims.last_error(tx, task.work))


def _given_up(task: Task, lease: Lease, reason: str) -> StoredProblem:
    return failures.given_up(task.name, attempts=lease.counted, reason=reason).problem


def _failed(problem: StoredProblem | None) -> str:
    if problem is None:
        return "retried"
    return "given_up" if problem["code"] == failures.GIVEN_UP else "failed"


def _lost(tx: Session, task: Task) -> str:
    """Return the outcome of a run whose claim was lost."""
    return "cancelled" if claims.is_cancelled(tx, task.work) else "superseded"


#: The function that gives a claim back, by the resource that the work waits for.
_GIVE_BACK = {
    None: claims.retry_later,
    Wait.STORAGE: claims.wait_for_storage,
    Wait.DATABASE: claims.wait,
    Wait.RESOLVER: claims.wait,
    Wait.BACKBONE: claims.wait_for_backbone,
}


def _retry_later(tx: Session, task: Task, lease: Lease, failure: Failure) -> bool:
    give_back = _GIVE_BACK[failure.wait]
    if failure.wait is None:
        delay_s = failures.delay_s(lease.counted)
    else:
        delay_s = failures.delay_s(lease.uncounted + 1, most_s=failure.wait.most_s)
    return give_back(tx, task.work, attempt=lease.attempt, delay_s=delay_s, error=failure.reason)


def discard(runtime: Runtime, lease: Lease) -> None:
    """Remove the blobs of a failed attempt. Recovery removes those that remain."""
    try:
        runtime.blobs.delete(*lease.keys)
    except Exception as error:
        log.warning("blobs_not_removed", keys=lease.keys, error=type(error).__name__)


def _record(
    tx: Session, task: Task, run: ActorRun, outcome: str, steps: Sequence[StepRun] = ()
) -> None:
    assert run.attempt is not None
    own_s = run.duration_s - sum(step.duration_s for step in steps)
    own = StepRun(task.name, outcome, own_s, task.work.names.get("span_index"))
    session_queries.add_runs(tx, task.work, [own, *steps], attempt=run.attempt)
