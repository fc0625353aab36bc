"""Summary of a session: durations of the noise types, and their shares of the sound energy.

All figures are computed from events and levels by unions of intervals and by sums. So neither the
order of events nor their overlap makes anything count twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from actors.science.levels.levels import EnergyCurve
from actors.science.levels.totals import SILENCE
from actors.science.summaries.intervals import Intervals

#: Classes of the histogram of confidence, which lies in [0, 1].
CONFIDENCE_CLASSES = 10
MINUTE_S = 60.0


@dataclass(frozen=True, eq=False, kw_only=True)
class Events:
    """The events of a session, in order of their onsets; all arrays have the same length.

    Attributes
    ----------
    types
        The noise types that occur, by name.
    type_index
        For each event the index of its type in ``types``.
    start_s, end_s
        In seconds of the recording.
    confidence
        In [0, 1].
    laeq_db, lafmax_db
        In dB relative to the session's reference; NaN for digital silence.
    """

    types: tuple[str, ...]
    type_index: NDArray[np.intp]
    start_s: NDArray[np.float64]
    end_s: NDArray[np.float64]
    confidence: NDArray[np.float64]
    laeq_db: NDArray[np.float64]
    lafmax_db: NDArray[np.float64]

    @classmethod
    def of(
        cls,
        *,
        start_s: Sequence[float],
        end_s: Sequence[float],
        noise_type: Sequence[str],
        confidence: Sequence[float],
        laeq_db: Sequence[float | None],
        lafmax_db: Sequence[float | None],
    ) -> Self:
        """Make events from columns of one length, in any order; ``None`` is digital silence."""
        types = tuple(sorted(set(noise_type)))
        place = {name: index for index, name in enumerate(types)}
        type_index = np.fromiter((place[name] for name in noise_type), np.intp, len(noise_type))
        # Unknown values become NaN.
        columns = {
            name: np.array(values, dtype=np.float64)
            for name, values in (
                ("lafmax_db", lafmax_db),
                ("laeq_db", laeq_db),
                ("confidence", confidence),
                ("end_s", end_s),
                ("start_s", start_s),
            )
        }
        # By all columns, the last key first, so that the result does not depend on the input's
        # order.
        order = np.lexsort((type_index, *columns.values()))
        return cls(
            types=types,
            type_index=type_index[order],
            **{name: values[order] for name, values in columns.items()},
        )

    def __len__(self) -> int:
        return self.start_s.size

    def by_type(self) -> dict[str, NDArray[np.intp]]:
        """Return the indices of the events of each type, in order."""
        order = np.argsort(self.type_index, kind="stable")
        ends = np.cumsum(np.bincount(self.type_index, minlength=len(self.types)))
        parts = np.split(order, ends[:-1])
        return dict(zip(self.types, parts, strict=True)) if self.types else {}

    def loudest(self, count: int) -> NDArray[np.intp]:
        """Return the indices of the loudest audible events: by LAFmax, then by LAeq."""
        order = np.lexsort((-self.laeq_db, -self.lafmax_db))
        heard = order[np.isfinite(self.lafmax_db[order])]
        return heard[:count]


def heard(events: Events, *, duration_s: float) -> dict[str, Intervals]:
    """Return the intervals of each noise type: the union of its events."""
    return {
        name: Intervals.union(events.start_s[places], events.end_s[places], duration_s=duration_s)
        for name, places in events.by_type().items()
    }


def confidence_counts(confidence: NDArray[np.float64]) -> NDArray[np.int64]:
    """Count confidences in `CONFIDENCE_CLASSES` equal classes of [0, 1].

    The last class includes its upper edge.
    """
    counts, _edges = np.histogram(confidence, bins=CONFIDENCE_CLASSES, range=(0.0, 1.0))
    return counts.astype(np.int64)


# --- minutes -----------------------------------------------------------------------------------


def bounds_of(duration_s: float, *, step_s: float) -> NDArray[np.float64]:
    """Return the starts of the seconds or minutes of a recording, and its end, in seconds."""
    n_steps = int(np.ceil(duration_s / step_s))
    bounds_s: NDArray[np.float64] = np.minimum(np.arange(n_steps + 1) * step_s, duration_s)
    return bounds_s


def begun(start_s: NDArray[np.float64], *, n_minutes: int) -> NDArray[np.int64]:
    """Count the events that begin in each minute [shape=(n_minutes,)].

    An event that begins before the recording, or after its end due to rounding, counts in the first
    or the last minute.
    """
    minutes = np.clip(start_s // MINUTE_S, 0, max(n_minutes - 1, 0)).astype(np.int64)
    return np.bincount(minutes, minlength=n_minutes)


# --- whose the sound was -----------------------------------------------------------------------


@dataclass(frozen=True, eq=False, kw_only=True)
class EnergyShares:
    """Shares of the A-weighted sound energy of a recording; their sum is 1.

    Attributes
    ----------
    by_type
        Share of each noise type.
    background
        Share of the energy in the analysed time without events.
    unheard
        Share of the energy in the time without events that was not analysed.
    """

    by_type: Mapping[str, float]
    background: float
    unheard: float


def energy_shares(
    heard: Mapping[str, Intervals], energy: EnergyCurve, *, unheard: Intervals
) -> EnergyShares | None:
    """Split the sound energy of a recording between its noise types.

    With ``p(t)`` the A-weighted mean square at ``t`` and ``n(t)`` the number of *types* that sound
    at that time, the share of a type is::

        share = (integral of p(t) / n(t) over the time in which it sounds)
                / (integral of p(t) over the recording)

    So the energy of overlaps is split equally, and the energy of the time with ``n(t) = 0`` is the
    background's. Levels are those of the sum of all sounds: the background during an event counts
    as the event's, so that the share of a faint event over a loud background is an upper bound.

    Parameters
    ----------
    heard
        The intervals of each type.
    energy
        Of the recording; ``p`` is assumed to be constant within steps of 10 ms.
    unheard
        The parts that were not analysed.

    Returns
    -------
    EnergyShares or None
        ``None`` for digital silence, which has no energy to split.
    """
    parts = [*heard.values(), unheard]
    edges = [edge for part in parts for edge in (part.start_s, part.end_s)]
    bounds_s = np.unique(np.concatenate([[0.0, energy.duration_s], *edges]))
    energies = np.diff(energy.until(bounds_s))
    total = float(energies.sum())
    if total <= SILENCE * energy.duration_s:
        return None
    n_types = _count(bounds_s, heard.values())
    is_lost = _count(bounds_s, [unheard]) > 0
    split_until = np.append(0.0, np.cumsum(np.where(n_types > 0, energies / n_types.clip(1), 0.0)))
    return EnergyShares(
        by_type={
            name: float(
                (
                    split_until[_at(bounds_s, part.end_s)]
                    - split_until[_at(bounds_s, part.start_s)]
                ).sum()
            )
            / total
            for name, part in heard.items()
        },
        background=float(energies[(n_types == 0) & ~is_lost].sum()) / total,
        unheard=float(energies[(n_types == 0) & is_lost].sum()) / total,
    )


def _count(bounds_s: NDArray[np.float64], parts: Iterable[Intervals]) -> NDArray[np.int64]:
    """Count the unions that cover each interval between two bounds [shape=(n_bounds-1,)]."""
    change = np.zeros(bounds_s.size, dtype=np.int64)
    for part in parts:
        # The edges of one union are all different, so that each is counted.
        change[_at(bounds_s, part.start_s)] += 1
        change[_at(bounds_s, part.end_s)] -= 1
    return np.cumsum(change)[:-1]


def _at(bounds_s: NDArray[np.float64], edges_s: NDArray[np.float64]) -> NDArray[np.intp]:
    return np.searchsorted(bounds_s, edges_s)


# --- limits ------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Exceedances:
    """The seconds whose level exceeds a limit.

    Attributes
    ----------
    above_s
        Total duration, in seconds.
    count
        Number of exceedances: consecutive seconds are one.
    longest_s, longest_start_s
        Duration and start of the longest one, the first of equal ones; the start is ``None`` if
        there are none.
    heard_s
        Duration of each noise type during exceedances, in seconds. Types overlap.
    background_s
        Duration without any type during exceedances, in seconds.
    """

    above_s: float
    count: int
    longest_s: float
    longest_start_s: float | None
    heard_s: Mapping[str, float]
    background_s: float


def exceedances(
    second_db: NDArray[np.float64],
    limit_db: float,
    *,
    duration_s: float,
    heard: Mapping[str, Intervals],
) -> Exceedances:
    """Find the seconds whose level exceeds a limit.

    Parameters
    ----------
    second_db [shape=(n_seconds,)]
        The level of each second (LAeq, or the greatest LAF) in dB relative to the limit's
        reference; the last second may be shorter.
    """
    above = np.concatenate([[False], second_db > limit_db, [False]])
    edges = np.flatnonzero(np.diff(above.astype(np.int8))).astype(np.float64)
    over = Intervals(edges[::2], np.minimum(edges[1::2], duration_s))
    lengths_s = over.end_s - over.start_s
    every = Intervals.all_of(heard.values(), duration_s=duration_s)
    return Exceedances(
        above_s=over.total_s,
        count=lengths_s.size,
        longest_s=float(lengths_s.max(initial=0.0)),
        longest_start_s=float(over.start_s[lengths_s.argmax()]) if lengths_s.size else None,
        heard_s={
            name: during_s
            for name, part in heard.items()
            if (during_s := _during_s(part, over)) > 0.0
        },
        background_s=max(over.total_s - _during_s(every, over), 0.0),
    )


def _during_s(part: Intervals, over: Intervals) -> float:
    """Return the seconds of one union that are inside another."""
    bounds_s = np.column_stack([over.start_s, over.end_s]).ravel()
    return float(part.between_s(bounds_s)[::2].sum())
