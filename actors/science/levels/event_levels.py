"""The levels of each event of a recording, and of the background before it.

An event stands out from a background. Standards compare the two: BS 4142:2014 takes LA90 as the
background sound level, and ISO 1996-1:2016 calls the sound that remains without the event's source
the residual sound. Both measure it while the source is silent, as here: before the onset.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import signal

from actors.science.levels.bands import settled
from actors.science.levels.levels import SILENT, STEP_S, STEPS_PER_S, LevelHistory
from actors.science.levels.time_weighting import FAST_TAU_S, START_UP_S, recovery_s
from actors.science.levels.totals import Totals, to_db
from actors.science.types import Event

#: The background of an event is that of so many seconds of undisturbed sound before its onset. More
#: would follow a change of the background too late; fewer would make LA90 depend on chance.
BACKGROUND_S = 30.0

#: Undisturbed sound that is older than this does not count.
OLDEST_S = 300.0

#: With less undisturbed sound an event has no background level.
LEAST_S = 5.0

#: An event is above its background where LAF exceeds it by this: from there on, the event alone is
#: as loud as its background.
ABOVE_DB = 3.0

#: Steps that are weighted at once, to bound the memory for a day.
_BLOCK = 3_600 * STEPS_PER_S

Interval = tuple[float, float]


def measured(
    found: Sequence[Event],
    levels: LevelHistory,
    totals: Totals,
    *,
    unheard: Sequence[Interval] = (),
) -> list[Event]:
    """Return all events of a recording with their levels, in dB re full scale.

    Parameters
    ----------
    found
        All events, of which one may be part of another's background or must not be.
    levels, totals
        Both results of the meter for the recording.
    unheard
        Start and end of intervals that were not analysed. They may hold events, so they are not
        background.
    """
    slow = _Maxima(levels.slow_max, of_all_db=to_db(totals.slow_max))
    peaks = _Maxima(levels.c_peak, of_all_db=to_db(totals.c_peak**2))
    # F is of no use in holes, and after each until it has risen again.
    holes_s = (levels.holes / levels.rate_hz).tolist()
    rising = [(start_s, end_s + recovery_s(end_s - start_s)) for start_s, end_s in holes_s]
    fast, backgrounds = (
        fast_weighted(levels),
        _Backgrounds(found, [*unheard, *rising], n_steps=levels.mean_square.size),
    )
    return [
        _with_background(
            _with_own(event, levels, slow, peaks), levels, fast, backgrounds.of(event, fast)
        )
        for event in found
    ]


def fast_weighted(levels: LevelHistory) -> NDArray[np.float32]:
    """Return the fast-weighted mean square at the end of each step [shape=(n_steps,)].

    The time weighting F runs over the means of the steps: ``F[k] = d F[k-1] + (1 - d) m[k]`` with
    ``d = exp(-STEP_S / FAST_TAU_S)``. The weight of a sample is off by what F decays within half a
    step, so no level is off by more than 0.18 dB, and steady sound has its exact level.
    """
    decay = math.exp(-STEP_S / FAST_TAU_S)
    fast, state = np.empty(levels.mean_square.size, dtype=np.float32), np.zeros(1)
    for first in range(0, fast.size, _BLOCK):
        block = levels.mean_square[first : first + _BLOCK].astype(np.float64)
        fast[first : first + _BLOCK], state = signal.lfilter(
            [1 - decay], [1.0, -decay], block, zi=state
        )
        state = settled(state)
    return fast


def _with_own(event: Event, levels: LevelHistory, slow: _Maxima, peaks: _Maxima) -> Event:
    """Add the levels of the event itself."""
    first, last, weights = levels.steps(event.start_s, event.end_s)
    if event.laeq_db is None or not weights.size:
        return event
    duration_s = float(weights.sum()) / levels.rate_hz
    return replace(
        event,
        lae_db=event.laeq_db + 10 * math.log10(duration_s),
        lasmax_db=slow.between_db(first, last),
        lcpeak_db=peaks.between_db(first, last),
    )


class _Maxima:
    """Finds the greatest level of some steps, which are stored in hundredths of a dB.

    The greatest of all steps is the recording's own level, not rounded. So no event exceeds its
    recording, and one with the recording's maximum has the same level.
    """

    def __init__(self, steps: NDArray[np.int16] | None, *, of_all_db: float | None) -> None:
        self._steps = steps
        self._greatest = SILENT if steps is None else int(steps.max(initial=SILENT))
        self._of_all_db = of_all_db

    def between_db(self, first: int, last: int) -> float | None:
        """Return the greatest level of at least one step; None if no steps are stored."""
        if self._steps is None:
            return None
        greatest = int(self._steps[first:last].max())
        if greatest == self._greatest:
            return self._of_all_db
        return None if greatest == SILENT else greatest / 100


def _with_background(
    event: Event, levels: LevelHistory, fast: NDArray[np.float32], background: float | None
) -> Event:
    """Add the level of the background, a mean square, and how the event stands out from it."""
    background_db = None if background is None else to_db(background)
    if event.laeq_db is None or background is None or background_db is None:
        return event
    first, last, weights = levels.steps(event.start_s, event.end_s)
    above = fast[first:last] > background * 10 ** (ABOVE_DB / 10)
    return replace(
        event,
        background_la90_db=background_db,
        emergence_db=event.laeq_db - background_db,
        above_background_s=float(weights[above].sum()) / levels.rate_hz,
    )


class _Backgrounds:
    """Finds the background of each event, by its onset.

    Sound that an event covers is not background for the events after its end. An event that lasts
    at the onset of another, such as rain, is part of that one's background.
    """

    def __init__(
        self, found: Sequence[Event], unheard: Sequence[Interval], *, n_steps: int
    ) -> None:
        order = sorted(found, key=lambda event: event.end_s)
        self._starts = [_step(event.start_s) for event in order]
        self._ends = np.array([_step(event.end_s) for event in order], dtype=np.int64)
        self._is_heard = np.ones(n_steps, dtype=np.bool_)
        for start_s, end_s in unheard:
            first = math.floor(max(start_s, 0.0) * STEPS_PER_S)
            self._is_heard[first : max(math.ceil(end_s * STEPS_PER_S), 0)] = False

    def of(self, event: Event, fast: NDArray[np.float32]) -> float | None:
        """Return the mean square that F exceeds for 90 % of the time before an event."""
        onset = _step(event.start_s)
        first = max(onset - round(OLDEST_S * STEPS_PER_S), round(START_UP_S * STEPS_PER_S))
        if onset <= first:
            return None
        is_undisturbed = self._is_heard[first:onset].copy()
        ended = range(*np.searchsorted(self._ends, [first, onset], side="right").tolist())
        for index in ended:
            start, end = self._starts[index], int(self._ends[index])
            is_undisturbed[max(start - first, 0) : max(end - first, 0)] = False
        latest = fast[first:onset][is_undisturbed][-round(BACKGROUND_S * STEPS_PER_S) :]
        if latest.size < round(LEAST_S * STEPS_PER_S):
            return None
        return float(np.quantile(latest, 0.1))


def _step(at_s: float) -> int:
    return round(at_s * STEPS_PER_S)
