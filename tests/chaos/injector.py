"""The injector: which faults occur, when and for how long, drawn from the seed of a run."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

import dramatiq
import pika.exceptions
import psycopg

from tests.chaos.faults import FAULTS, Fault, impossible
from tests.chaos.world import World

#: Minimum and maximum seconds between two faults of a lane, so that a killed worker gets to work
#: again. Faults of one lane occur in sequence, those of different lanes concurrently.
LANES = {"processes": (4.0, 10.0), "servers": (1.0, 4.0)}
#: A process fails only after a step was done since its last failure, or after this many seconds.
#: Otherwise a run on a busy machine would see nothing but processes starting.
PROGRESS_S = 15.0
#: Attempts of a fault, since a queue may have no leader yet when RabbitMQ answers again.
TRIES = 5
TRY_AGAIN_S = 2.0
DONE = "SELECT count(*) FROM processing_metrics WHERE result = 'done'"


@dataclass
class Injected:
    """One fault of a run."""

    name: str
    #: Seconds since the beginning of the stream.
    at_s: float
    what: str
    lasted_s: float = 0.0


@dataclass
class Injector:
    """Injects faults between start and stop, with one thread per lane."""

    world: World
    seed: int
    #: Seconds since the beginning of the stream.
    clock: Callable[[], float]
    say: Callable[[str], None]
    #: How long a full disk lasts, instead of a few seconds.
    full_s: float | None = None
    injected: list[Injected] = field(default_factory=list)
    #: Errors of the injection itself, which invalidate the run.
    broken: list[BaseException] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._stopped = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(lane,), name=lane, daemon=True)
            for lane in LANES
        ]

    def start(self) -> None:
        """Start injecting."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Undo active faults, and stop."""
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def _run(self, lane: str) -> None:
        rng, done = random.Random(f"{self.seed} {lane}"), 0
        try:
            for fault in self._deal(lane, rng):
                # Always drawn, so that the seed determines all of them.
                gap_s, lasts_s = rng.uniform(*LANES[lane]), rng.uniform(*fault.lasts)
                if fault.in_leases:
                    lasts_s *= self.world.settings.lease_s
                if fault.name == "blobs-full" and self.full_s is not None:
                    lasts_s = self.full_s
                draw = rng.random()
                if self._stopped.wait(gap_s):
                    return
                if lane == "processes":
                    done = self._await_progress(beyond=done)
                self._inject(fault, draw, lasts_s)
        except BaseException as error:
            self.broken.append(error)

    def _await_progress(self, *, beyond: int) -> int:
        """Wait until more than this number of steps are done; return the new number."""
        deadline, done = time.monotonic() + PROGRESS_S, beyond
        while done <= beyond and time.monotonic() < deadline and not self._stopped.wait(0.1):
            with suppress(psycopg.OperationalError):
                [(done,)] = self.world.rows(DONE)
        return done

    def _deal(self, lane: str, rng: random.Random) -> Iterator[Fault]:
        """Yield the faults of a lane, reshuffled each round, so that none is missing for long."""
        left_out = impossible(self.world)
        deck = [fault for fault in FAULTS if fault.lane == lane and fault.name not in left_out]
        while True:
            rng.shuffle(deck)
            yield from deck

    def _inject(self, fault: Fault, draw: float, lasts_s: float) -> None:
        at_s = self.clock()
        entry = Injected(fault.name, at_s, self._hurt(fault, draw))
        self.injected.append(entry)
        if lasts_s:
            self._stopped.wait(lasts_s)
        fault.mend(self.world)
        entry.lasted_s = self.clock() - at_s
        self.say(f"{at_s:6.1f} s  {fault.name}: {entry.what}; {entry.lasted_s:.1f} s")

    def _hurt(self, fault: Fault, draw: float) -> str:
        for _ in range(TRIES - 1):
            with suppress(pika.exceptions.AMQPError, dramatiq.errors.ConnectionError):
                return fault.hurt(self.world, draw)
            self._stopped.wait(TRY_AGAIN_S)
        return fault.hurt(self.world, draw)
