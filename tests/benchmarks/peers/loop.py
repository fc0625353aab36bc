"""The science alone, as a program that is compared."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import psutil

from tests.benchmarks.peers.program import COMPARED, Events, Figures, Program


class Alone(Program):
    """The science alone, in processes that take paths from here."""

    def __init__(self) -> None:
        super().__init__("science alone")
        self._processes: list[subprocess.Popen[str]] = []

    @contextmanager
    def running(self, n_workers: int, *, warm: Path) -> Iterator[None]:
        """As `Program.running`."""
        self._processes = [_alone() for _ in range(n_workers)]
        try:
            for process in self._processes:
                _answer(process)
                _answer(process, warm)
            yield
        finally:
            for process in self._processes:
                process.kill()
                process.wait()
            self._processes = []

    def run(self, files: Sequence[Path]) -> Figures:
        """As `Program.run`; each process takes the next recording when it is free."""
        waiting = list(reversed(files))
        events: dict[Path, Events] = {}

        def work(process: subprocess.Popen[str]) -> None:
            while waiting:
                file = waiting.pop()
                events[file] = _answer(process, file)

        cpu_s, began = self.cpu_s(), time.perf_counter()
        with ThreadPoolExecutor() as pool:
            list(pool.map(work, self._processes))
        return Figures(time.perf_counter() - began, self.cpu_s() - cpu_s, events)

    def single_s(self, file: Path) -> float:
        """As `Program.single_s`."""
        return self.run([file]).took_s

    def cold_s(self, file: Path) -> float:
        """As `Program.cold_s`."""
        began = time.perf_counter()
        process = _alone()
        _answer(process)
        _answer(process, file)
        took_s = time.perf_counter() - began
        process.kill()
        process.wait()
        return took_s

    def processes(self) -> list[psutil.Process]:
        """As `Program.processes`."""
        return [psutil.Process(each.pid) for each in self._processes]


def _alone() -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.peers.alone"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def _answer(process: subprocess.Popen[str], file: Path | None = None) -> Events:
    """Send a path, or nothing, and return the events of the next line."""
    assert process.stdin is not None
    assert process.stdout is not None
    if file is not None:
        process.stdin.write(f"{file}\n")
        process.stdin.flush()
    line = process.stdout.readline()
    assert line, "the science alone has failed"
    return sorted(tuple(event[name] for name in COMPARED) for event in json.loads(line))
