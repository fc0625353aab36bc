"""The recordings of a comparison."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import soundfile

from tests.support import recordings

#: Clips of different sound; longer loads repeat them.
DISTINCT = 20


@dataclass(frozen=True)
class Load:
    """Recordings of one length, which all wait at the start."""

    name: str
    files: list[Path]


class Recordings:
    """Makes recordings in a folder, each when it is first needed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def clips(self, n: int, *, seconds: float) -> list[Path]:
        """Return clips, cut from the demo's recordings at different places."""

        made = [
            self._made(f"clip-{seconds:g}-{number}.flac", partial(_write_clip, number, seconds))
            for number in range(min(n, DISTINCT))
        ]
        return [made[number % len(made)] for number in range(n)]

    def long(self, minutes: float) -> Path:
        """Return a recording of several minutes: the demo's recordings, one after the other."""

        return self._made(f"long-{minutes:g}.flac", partial(_write_long, minutes))

    def _made(self, name: str, write: Callable[[Path], None]) -> Path:
        file = self._folder / name
        if not file.exists():
            write(file)
        return file


def _write_clip(number: int, seconds: float, file: Path) -> None:
    samples = recordings.demo(1 + number)
    start = number * recordings.RATE_HZ % (samples.size // 2)
    cut = samples[start : start + round(seconds * recordings.RATE_HZ)]
    file.write_bytes(recordings.encode(cut))


def _write_long(minutes: float, file: Path) -> None:
    n_left = round(minutes * 60 * recordings.RATE_HZ)
    whole = np.concatenate([recordings.demo(1 + number) for number in range(DISTINCT)])
    with soundfile.SoundFile(file, "w", recordings.RATE_HZ, 1, format="FLAC") as out:
        while n_left > 0:
            part = whole[:n_left]
            out.write(part)
            n_left -= part.size
