"""Signals, reference tables, and a one-call meter, for the tests of levels."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actors.science.levels.levels import LevelHistory
from actors.science.levels.meter import LevelMeter
from actors.science.levels.totals import Totals

DATA = Path(__file__).parents[1] / "reference_data"


def table(name: str) -> list[dict[str, str]]:
    """Return the rows of a reference table, as text."""
    with (DATA / name).open(newline="") as file:
        return list(csv.DictReader(file))


def rows(name: str) -> list[dict[str, float]]:
    """Return the rows of a reference table of numbers, without empty cells."""
    return [{key: float(value) for key, value in row.items() if value} for row in table(name)]


def sine(rate_hz: int, *, hz: float, seconds: float, peak: float = 1.0) -> NDArray[np.float64]:
    """Return a sine that begins at zero."""
    return peak * np.sin(2 * np.pi * hz * np.arange(round(rate_hz * seconds)) / rate_hz)


def exact(quantity: str, contains: str = "") -> tuple[float, float]:
    """Return the expected value and tolerance of a row of the closed forms."""
    [row] = [
        row
        for row in table("exact_vectors.csv")
        if row["quantity"] == quantity and contains in row["input"]
    ]
    return float(row["expected"]), float(row["tolerance"])


def tone(level_db: float, seconds: float, *, rate_hz: int = 8_000) -> NDArray[np.float64]:
    """Return 1 kHz with a level for a calibration of 100 dB."""
    peak = math.sqrt(2) * 10 ** ((level_db - 100) / 20)
    # Whole cycles repeat after a second.
    return np.resize(sine(rate_hz, hz=1000, seconds=1, peak=peak), round(rate_hz * seconds))


def metered(
    samples: NDArray[np.floating[Any]],
    rate_hz: int,
    *,
    cuts: Sequence[int] = (),
    third_octaves: bool = False,
) -> tuple[LevelHistory, Totals]:
    """Return both results of the meter, with the samples cut into blocks."""
    block = samples.astype(np.float32)
    block = block[:, None] if block.ndim == 1 else block
    meter = LevelMeter(rate_hz=rate_hz, n_channels=block.shape[1], third_octaves=third_octaves)
    for part in np.split(block, list(cuts)):
        meter.push(part)
    return meter.finish(), meter.totals()


def measure(samples: NDArray[np.floating[Any]], rate_hz: int) -> LevelHistory:
    """Return the level over time."""
    return metered(samples, rate_hz)[0]


def overall(
    samples: NDArray[np.floating[Any]], rate_hz: int, *, calibration_db: float = 0.0
) -> dict[str, float]:
    """Return the levels of the whole recording, none of which is silent."""
    found = metered(samples, rate_hz)[1].overall_db(calibration_db)
    return {name: level_db for name, level_db in found.items() if level_db is not None}
