"""Let other work pass between the pieces of long work.

A recording may take minutes to decode. Its run gives the turn back every few seconds. First the
same thread does what else is due and short, in the fair order of the database. Then the other long
runs of the process work, each for one piece: they wait in threads of their own, and one *baton*
passes between them, so that one thread computes at a time. So a recording with many samples delays
those of others by a few seconds for each piece, even if there is one worker.

A second long run begins in a turn if a recording of another lane waits and no worker has taken it;
never for a lane that has an open run here. So the runs of one lane cannot keep others from the
worker.

A run keeps its claim while it waits, and its deadline does not run. So its message may stay unacked
for longer than RabbitMQ waits (30 minutes): then it comes again, and finds the row claimed.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import structlog
from dramatiq.middleware import Shutdown

from actors.execution.baton import Baton
from actors.execution.lease import Lease
from actors.messaging.messages import Nudge

log = structlog.get_logger(__name__)

#: How long a run works before it gives the turn back, and how long others may then work before they
#: begin nothing more. Shorter lets others wait less; each turn costs a statement for each kind of
#: short work.
TURN_S = 2.0
#: How many long runs may begin beside that of a message. More let more callers progress at the same
#: time, each of them slower; each takes the memory of a decoder and its meters.
MOST_BESIDE = 2
#: How long the end of a process waits for runs that began in turns. They end with their piece. With
#: the 25 s of messages this is less than Kubernetes' 30 s.
STOP_S = 4.0


@dataclass(eq=False)
class Seat:
    """The place of a thread among those that work in turns."""

    #: Whether its run began in a turn, rather than with a message.
    is_beside: bool = False
    #: The claim that the run holds; None before it has one.
    lease: Lease | None = None
    #: How long the claim will have been held when the next turn is due.
    next_at_s: float = 0.0
    #: Whether the thread does the work of others now.
    is_given: bool = False


class Turns:
    """Gives turns to other work, in the threads of one process.

    ``take_due`` returns a message for each kind of short work that is due, ``find_long`` a message
    for long work of other lanes than those of some sessions, and ``handle`` does the work of one.
    All are set by the worker; without them no turn is given.
    """

    def __init__(self) -> None:
        self.take_due: Callable[[], Sequence[Nudge]] | None = None
        self.find_long: Callable[[Sequence[uuid.UUID]], Nudge | None] = lambda _beside: None
        self.handle: Callable[[Nudge], None] | None = None
        self._baton = Baton()
        self._seats: dict[Seat, threading.Thread] = {}
        self._of_thread = threading.local()
        self._is_stopped = False

    def among(self, n_threads: int) -> None:
        """Let this many threads work at a time: those of the worker, before they start."""
        self._baton = Baton(n_threads)

    def stop(self) -> None:
        """Give no more turns: the process is about to stop, and begins nothing new.

        Runs that began in turns give their claims back.
        """
        self._is_stopped = True
        self._baton.open()

    def join(self) -> None:
        """Wait for the runs that began in turns, after :meth:`stop`."""
        ends_at = time.monotonic() + STOP_S
        for seat, thread in list(self._seats.items()):
            if seat.is_beside:
                thread.join(max(ends_at - time.monotonic(), 0.0))

    @contextmanager
    def taken(self, seat: Seat | None = None) -> Iterator[None]:
        """Wait for the turn of this thread, and keep it in a block, except where it is given."""
        seat = seat or Seat()
        self._seats[seat] = threading.current_thread()
        try:
            with self._baton:
                self._of_thread.seat = seat
                yield
        finally:
            self._of_thread.seat = None
            del self._seats[seat]

    @property
    def is_beside(self) -> bool:
        """Whether this thread's run began in a turn."""
        seat = self._seat
        return seat is not None and seat.is_beside

    def begun(self, lease: Lease) -> None:
        """Let the run of a claim give turns from now on, unless another run lets it pass."""
        seat = self._seat
        if seat is not None and not seat.is_given:
            seat.lease, seat.next_at_s = lease, TURN_S

    def open_sessions(self) -> list[uuid.UUID]:
        """Return the sessions of all open runs of this process, except those that are let pass."""
        leases = [seat.lease for seat in list(self._seats) if seat.lease is not None]
        return [names["session_id"] for each in leases if "session_id" in (names := each.names)]

    def give(self, lease: Lease) -> None:
        """Let others work, if the run of a claim has worked for long enough since the last turn.

        Cheap, so that it can be called often. What was let pass lets nothing pass in turn.

        Raises
        ------
        ClaimLost
            If the claim was lost meanwhile.
        Shutdown
            If the run began in a turn, and the process is about to stop.
        """
        seat = self._seat
        if seat is None or seat.lease is not lease:
            return
        if lease.held_s >= seat.next_at_s and self.take_due is not None and not self._is_stopped:
            seat.is_given = True
            try:
                with lease.suspended():
                    self._let_others_work(self.take_due)
            finally:
                seat.is_given = False
                seat.next_at_s = lease.held_s + TURN_S
            lease.check()
        if self._is_stopped and seat.is_beside:
            raise Shutdown

    @property
    def _seat(self) -> Seat | None:
        seat: Seat | None = getattr(self._of_thread, "seat", None)
        return seat

    def _let_others_work(self, take_due: Callable[[], Sequence[Nudge]]) -> None:
        try:
            self._do_what_is_due(take_due)
            self._begin_another()
        except Exception as error:
            # Postgres is unavailable. A failure of the work itself is stored by its run.
            log.warning("turn_not_given", error=type(error).__name__)
        self._baton.pass_on()

    def _do_what_is_due(self, take_due: Callable[[], Sequence[Nudge]]) -> None:
        assert self.handle is not None
        began = time.monotonic()
        while (due := take_due()) and not self._is_stopped:
            for nudge in due:
                self.handle(nudge)
            if time.monotonic() - began > TURN_S:
                break

    def _begin_another(self) -> None:
        """Begin a long run of another lane in a thread, if one waits and there is room."""
        beside = [seat for seat in list(self._seats) if seat.is_beside]
        # One that has not claimed yet may be about to claim the one that waits.
        if len(beside) >= MOST_BESIDE or any(seat.lease is None for seat in beside):
            return
        nudge = self.find_long(self.open_sessions())
        if nudge is None or self._is_stopped:
            return
        seat = Seat(is_beside=True)
        thread = threading.Thread(
            target=self._work_beside, args=(seat, nudge), name="beside", daemon=True
        )
        self._seats[seat] = thread
        try:
            thread.start()
        except RuntimeError:
            del self._seats[seat]
            raise

    def _work_beside(self, seat: Seat, nudge: Nudge) -> None:
        assert self.handle is not None
        with self.taken(seat):
            if not self._is_stopped:
                self.handle(nudge)
