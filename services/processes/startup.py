"""The wait for a process to start: progress on the terminal, and an error without any."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from services.processes.homes import StandaloneError

#: A start fails after this many seconds without a new line in the log. Postgres writes one every
#: ten seconds while it recovers.
SILENT_S = 120.0
#: Seconds between two lines of progress during a start.
REPORT_S = 5.0
#: Lines of the log to quote at the end of an error.
SHOWN_LINES = 5


class StartupWait:
    """The wait for a start: prints progress, and fails when there is none."""

    def __init__(
        self, what: str, *, log: Path | None, silent_s: float | None = None, shown: bool = True
    ) -> None:
        self._what = what
        self._log = log
        self._silent_s = SILENT_S if silent_s is None else silent_s
        self._shown = shown
        self._began = self._reported = self._grew = time.monotonic()
        self._start = self._size = self._log_bytes()

    def look(self) -> None:
        """Print a line if one is due; raise :class:`StandaloneError` if there is no progress."""
        now, size = time.monotonic(), self._log_bytes()
        if size != self._size:
            self._size, self._grew = size, now
        if now - self._grew > self._silent_s:
            raise self.failure(f"shows no progress for {self._silent_s:.0f} s")
        if self._shown and now - self._reported >= REPORT_S:
            self._reported = now
            line = "".join(self._lines()[-1:])
            print(f"{self._what}: {now - self._began:.0f} s ... {line}".rstrip(), file=sys.stderr)

    def failure(self, how: str) -> StandaloneError:
        """Return an error that ends with the last lines of the log of this start."""
        if self._log is None:
            return StandaloneError(f"{self._what} {how}")
        lines = self._lines()[-SHOWN_LINES:] or ["(nothing)"]
        return StandaloneError("\n  ".join([f"{self._what} {how}; {self._log} ends:", *lines]))

    def _lines(self) -> list[str]:
        if self._log is None or not self._log.exists():
            return []
        with self._log.open("rb") as file:
            file.seek(self._start)
            return file.read().decode(errors="replace").splitlines()

    def _log_bytes(self) -> int:
        return self._log.stat().st_size if self._log is not None and self._log.exists() else 0
