"""What is asked of each program that is compared."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from tests.support.cluster import peak_bytes

#: The columns of an event that are compared.
COMPARED = ("start_s", "end_s", "noise_type", "confidence", "laeq_db", "lafmax_db")

Events = list[tuple[Any, ...]]


class Figures(NamedTuple):
    """What a run of recordings took: seconds, the workers' CPU seconds, and events by file."""

    took_s: float
    cpu_s: float
    events: dict[Path, Events]


class Program(ABC):
    """A program and its workers. Workers run within `running`."""

    def __init__(self, name: str) -> None:
        self.name = name

    @abstractmethod
    def running(self, n_workers: int, *, warm: Path) -> AbstractContextManager[None]:
        """Run workers, each of which has processed a recording before the block."""

    @abstractmethod
    def run(self, files: Sequence[Path]) -> Figures:
        """Process recordings that all wait when the workers begin."""

    @abstractmethod
    def single_s(self, file: Path) -> float:
        """Return the seconds from the post of a single recording to its committed answer."""

    @abstractmethod
    def cold_s(self, file: Path) -> float:
        """Return the seconds from the start of a worker to the answer of a waiting recording."""

    @abstractmethod
    def processes(self) -> list[psutil.Process]:
        """Return the processes of the workers."""

    def peak_bytes(self) -> int:
        """Return the most memory that a single process of the workers has had resident."""
        return max(peak_bytes(each) for each in self.processes())

    def cpu_s(self) -> float:
        """Return the CPU seconds of the workers so far."""
        return sum(sum(each.cpu_times()[:2]) for each in self.processes())
