"""Intervals that are much louder than their background, of whatever type.

An interval is a run of frames at least `HOLD_DB` above the background, in A-weighted level, that
reaches `TRIGGER_DB` (hysteresis). It must have a minimum duration, and is extended by a short
pre-trigger. The background is a low percentile of the surrounding level: sound that lasts for most
of half a minute is background.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from actors.science.detection.chunks import STEP_S
from actors.science.detection.holes import Interval, frames_within
from actors.science.detection.silence import QUIET_DB
from actors.science.levels.levels import LevelHistory

#: Hysteresis in dB above the background: an interval reaches the first, and stays above the second.
TRIGGER_DB, HOLD_DB = 12.0, 6.0

#: Shorter intervals are dropped.
SHORTEST_S = 0.3

#: Intervals closer than this are joined.
LONGEST_GAP_S = 0.3

#: Intervals are extended backwards by this much, since attacks start below the threshold.
PRE_TRIGGER_S = 0.1

#: The background is this percentile of the level...
BACKGROUND_PERCENT = 25.0
#: ...over this duration around every frame, after a running mean over half a second.
BACKGROUND_S = 30.0
_SMOOTH_STEPS = 5


@dataclass(frozen=True, slots=True)
class LoudInterval:
    """A loud interval; ``share`` is the fraction of its energy above the background, in [0, 1]."""

    start_s: float
    end_s: float
    share: float


def find(
    levels: LevelHistory,
    *,
    lead_s: float = 0.0,
    holes: Sequence[Interval] = (),
    quiet_db: float = QUIET_DB,
) -> list[LoudInterval]:
    """Return the loud intervals by start; the recording's grid begins ``lead_s`` before it.

    No level is below ``quiet_db``, so that silence does not become the background.
    """
    if not levels.mean_square.size:
        return []
    loudness_db, background = contrast(levels, lead_s=lead_s, holes=holes, quiet_db=quiet_db)
    above_db = loudness_db - background
    above_db[frames_within(holes, n_steps=above_db.size, lead_s=lead_s)] = 0.0
    n_gap = round(LONGEST_GAP_S / STEP_S)
    padded = np.pad(above_db >= HOLD_DB, n_gap)
    holds = ndimage.binary_closing(padded, structure=np.ones(n_gap, dtype=bool))[n_gap:-n_gap]
    runs = [steps for (steps,) in ndimage.find_objects(ndimage.label(holds)[0])]
    return [
        _loud_interval(steps, above_db[steps], lead_s=lead_s)
        for steps in runs
        if above_db[steps].max() >= TRIGGER_DB and (steps.stop - steps.start) * STEP_S >= SHORTEST_S
    ]


def contrast(
    levels: LevelHistory, *, lead_s: float, holes: Sequence[Interval], quiet_db: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the level and the background level of every frame, in dB re full scale.

    The background is that of the time outside of holes; both are interpolated in these.
    """
    loudness_db = level_db(levels, lead_s=lead_s, quiet_db=quiet_db)
    [recorded] = np.nonzero(~frames_within(holes, n_steps=loudness_db.size, lead_s=lead_s))
    if recorded.size in (0, loudness_db.size):
        return loudness_db, background_db(loudness_db)
    steps, outside_db = np.arange(loudness_db.size), loudness_db[recorded]
    return (
        np.interp(steps, recorded, outside_db),
        np.interp(steps, recorded, background_db(outside_db)),
    )


def level_db(
    levels: LevelHistory, *, lead_s: float = 0.0, quiet_db: float = QUIET_DB
) -> NDArray[np.float64]:
    """Return the A-weighted level of every frame in dB re full scale, at least ``quiet_db``.

    The grid begins ``lead_s`` before the recording.
    """
    power = levels.on_grid(step_s=STEP_S, lead_s=lead_s)
    found: NDArray[np.float64] = 10.0 * np.log10(np.maximum(power, 10 ** (quiet_db / 10)))
    return found


def background_db(loudness_db: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the background level of every frame [shape=(n_steps,)], from levels in dB."""
    if not loudness_db.size:
        return loudness_db
    smooth = ndimage.uniform_filter1d(loudness_db, _SMOOTH_STEPS, mode="nearest")
    n_around = min(round(BACKGROUND_S / STEP_S), 2 * loudness_db.size - 1) | 1
    found: NDArray[np.float64] = ndimage.percentile_filter(
        smooth, BACKGROUND_PERCENT, size=n_around, mode="reflect"
    )
    return found


def _loud_interval(steps: slice, above_db: NDArray[np.floating], *, lead_s: float) -> LoudInterval:
    return LoudInterval(
        start_s=round(max(0.0, steps.start * STEP_S - lead_s - PRE_TRIGGER_S), 3),
        end_s=round(steps.stop * STEP_S - lead_s, 3),
        share=float(1.0 - 1.0 / np.power(10.0, above_db / 10.0).mean()),
    )
