"""The servers and programs of a comparison, set up as a measurement needs them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from rich.console import Console

from tests.benchmarks.peers.loads import Recordings
from tests.benchmarks.peers.loop import Alone
from tests.benchmarks.peers.program import Events, Figures, Program
from tests.benchmarks.peers.queued import Clamor, OnCelery, Place, Queued
from tests.support import servers

#: Makes a program that takes recordings from a queue.
Make = Callable[[Place, ExitStack], Queued]

_WHOLE = "tests.benchmarks.peers.whole"
_CHUNKED = "tests.benchmarks.peers.chunked"

CLAMOR = "Clamor"
#: The names of the programs as in tables. Chunks are as long, or as short, as a classifier takes.
QUEUED: dict[str, Make] = {
    CLAMOR: Clamor,
    "(b) Celery, our science": partial(
        OnCelery, "(b) Celery, our science", module=_WHOLE, task="peers.whole", chunk_s=5
    ),
    "(a) Celery, chunks of 5 s": partial(
        OnCelery, "(a) Celery, chunks of 5 s", module=_CHUNKED, task="peers.split", chunk_s=5
    ),
    "(a) Celery, chunks of 0.5 s": partial(
        OnCelery, "(a) Celery, chunks of 0.5 s", module=_CHUNKED, task="peers.split", chunk_s=0.5
    ),
}
#: The two whose growth is compared.
GROWING = list(QUEUED)[:2]


class Differs(Exception):
    """Two programs have found different events in a recording."""


@dataclass
class Stage:
    """The servers, recordings and options of a comparison, and the events of each recording."""

    postgres: str
    rabbitmq: str
    folder: Path
    said: Console
    rounds: int
    recordings: Recordings
    known: dict[Path, Events] = field(default_factory=dict)

    def program(self, name: str, stack: ExitStack) -> Queued:
        """Set up a program of `QUEUED` with a new database, queue and folder."""
        place = Place(
            database_url=stack.enter_context(servers.database(self.postgres)),
            amqp_url=self.rabbitmq,
            folder=Path(stack.enter_context(tempfile.TemporaryDirectory(dir=self.folder))),
        )
        return QUEUED[name](place, stack)

    def programs(self, stack: ExitStack) -> list[Program]:
        """Set up all programs; the science alone first, whose events the others must find."""
        return [Alone(), *(self.program(name, stack) for name in QUEUED)]

    def run(self, program: Program, files: Sequence[Path]) -> Figures:
        """Run recordings.

        Raises
        ------
        Differs
            If the program finds other events than the one that had a recording first.
        """
        figures = program.run(files)
        for file, events in figures.events.items():
            known = self.known.setdefault(file, events)
            if events != known:
                raise Differs(f"{program.name} found {events} in {file.name}, not {known}")
        return figures

    def rotated(self, programs: Sequence[Program], number: int) -> list[Program]:
        """Return the programs in the order of a round, each of which begins with another."""
        place = number % len(programs)
        return [*programs[place:], *programs[:place]]

    def warm(self) -> Path:
        """Return the recording that warms workers up."""
        return self.recordings.clips(1, seconds=5)[0]
