"""Stretches that are much louder than their background, whatever they are.

A stretch begins where the A-weighted level rises `TRIGGER_DB` above the background, goes on while
it stays `HOLD_DB` above, must last, and is given a little of what came before. The background is
a low percentile of the level around: what is there for most of half a minute is background.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from actors.science.levels import STEP_S, STEPS_PER_S, LevelSeries

#: Above the background, in dB: where a stretch begins, and down to where it goes on.
TRIGGER_DB, HOLD_DB = 12.0, 6.0

#: Shorter stretches are none.
SHORTEST_S = 0.3

#: Two stretches with less than this between them are one.
LONGEST_GAP_S = 0.3

#: A stretch begins this much before its trigger: attacks start below it.
PRE_TRIGGER_S = 0.1

#: The background is this percentile of the level...
BACKGROUND_PERCENT = 25.0
#: ...over this long around every half second.
BACKGROUND_S = 30.0

#: Digital silence is no background: levels are taken for at least this, in dB re full scale.
FLOOR_DB = -80.0

_PER_BLOCK = 5


@dataclass(frozen=True, slots=True)
class Exceedance:
    """A loud stretch; ``share`` is the part of its energy that is not background, in [0, 1]."""

    start_s: float
    end_s: float
    share: float


def find(levels: LevelSeries) -> list[Exceedance]:
    """The loud stretches of a recording, by start."""
    if not levels.mean_square.size:
        return []
    loudness_db = level_db(levels)
    above_db = loudness_db - background_db(loudness_db)
    n_gap = round(LONGEST_GAP_S * STEPS_PER_S)
    padded = np.pad(above_db >= HOLD_DB, n_gap)
    holds = ndimage.binary_closing(padded, structure=np.ones(n_gap, dtype=bool))[n_gap:-n_gap]
    runs = [steps for (steps,) in ndimage.find_objects(ndimage.label(holds)[0])]
    return [
        _exceedance(steps, above_db[steps])
        for steps in runs
        if above_db[steps].max() >= TRIGGER_DB and (steps.stop - steps.start) * STEP_S >= SHORTEST_S
    ]


def level_db(levels: LevelSeries) -> NDArray[np.float64]:
    """The A-weighted level of every step in dB re full scale, at least `FLOOR_DB`."""
    power = np.maximum(levels.mean_square.astype(np.float64), 10 ** (FLOOR_DB / 10))
    return 10.0 * np.log10(power)


def background_db(loudness_db: NDArray[np.float64]) -> NDArray[np.float64]:
    """The background under every step [shape=(n_steps,)] of levels in dB."""
    if not loudness_db.size:
        return loudness_db
    n_blocks = -(-loudness_db.size // _PER_BLOCK)
    padded = np.pad(loudness_db, (0, n_blocks * _PER_BLOCK - loudness_db.size), mode="edge")
    blocks = padded.reshape(n_blocks, _PER_BLOCK).mean(axis=1)
    n_around = min(round(BACKGROUND_S * STEPS_PER_S / _PER_BLOCK), 2 * n_blocks - 1) | 1
    smooth = ndimage.percentile_filter(blocks, BACKGROUND_PERCENT, size=n_around, mode="reflect")
    found: NDArray[np.float64] = np.repeat(smooth, _PER_BLOCK)[: loudness_db.size].astype(
        np.float64
    )
    return found


def _exceedance(steps: slice, above_db: NDArray[np.floating]) -> Exceedance:
    return Exceedance(
        start_s=round(max(0.0, steps.start * STEP_S - PRE_TRIGGER_S), 3),
        end_s=round(steps.stop * STEP_S, 3),
        share=float(1.0 - 1.0 / np.power(10.0, above_db / 10.0).mean()),
    )
