"""The levels of a whole recording, and their distribution.

All values are sums, maxima or counts, so that parts can be combined. Percentile levels therefore
come from a histogram: percentiles of parts cannot be averaged, but histograms can be added.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from actors.facts import third_octaves
from actors.science.types import JsonDict

#: Mean squares below this (-200 dB) are digital silence; they come from decaying filters.
SILENCE = 1e-20

#: Classes of the histogram: width, lower edge of the first, and number. Levels beyond the range,
#: which no recording reaches, count in the first or the last class.
CLASS_DB = 0.1
FIRST_DB = -200.0
N_CLASSES = 3_000

#: Percentile levels that are reported: L10 is the level exceeded for 10 % of the time.
PERCENTS = (5, 10, 50, 90, 95)


def to_db(mean_square: float) -> float | None:
    """Convert a mean square to dB re full scale; ``None`` for digital silence."""
    return 10.0 * math.log10(mean_square) if mean_square > SILENCE else None


def calibrated(level_db: float | None, calibration_db: float) -> float | None:
    """Add the calibration to a level; silence stays silence."""
    return None if level_db is None else level_db + calibration_db


@dataclass(frozen=True, eq=False)
class Histogram:
    """Counts of levels in classes of `CLASS_DB`: ``counts`` [shape=(N_CLASSES,)]."""

    counts: NDArray[np.int64]

    @classmethod
    def of(cls, mean_squares: NDArray[np.float64]) -> Histogram:
        """Make the histogram of time-weighted mean squares."""
        level_db = 10 * np.log10(np.maximum(mean_squares, SILENCE))
        index = np.clip((level_db - FIRST_DB) / CLASS_DB, 0, N_CLASSES - 1).astype(np.int64)
        return cls(np.bincount(index, minlength=N_CLASSES))

    def __add__(self, other: Histogram) -> Histogram:
        """Combine the histograms of two intervals."""
        return Histogram(self.counts + other.counts)

    def exceeded_db(self, percent: float) -> float | None:
        """Return the level that was exceeded for ``percent`` of the time, dB re full scale.

        Levels are assumed to be uniformly distributed within a class. ``None`` for silence and for
        an empty histogram.
        """
        wanted = percent / 100 * int(self.counts.sum())
        from_top = np.cumsum(self.counts[::-1])
        if wanted <= 0:
            return None
        at = int(np.searchsorted(from_top, wanted))
        index = N_CLASSES - 1 - at
        if index == 0:
            return None
        above = int(from_top[at] - self.counts[index])
        share = (wanted - above) / int(self.counts[index])
        return FIRST_DB + CLASS_DB * (index + 1 - share)


@dataclass(frozen=True, kw_only=True)
class ChannelTotals:
    """The levels of one channel over a whole recording, full scale = 1, and its state.

    ``state`` is one of those of `levels.channels`; ``other`` is the index of the channel that it
    refers to.
    """

    a_mean_square: float
    c_mean_square: float
    z_mean_square: float
    c_peak: float
    state: str
    other: int | None

    def overall_db(self, calibration_db: float = 0.0) -> dict[str, float | None]:
        """Return the levels by name."""
        found = {
            "laeq_db": to_db(self.a_mean_square),
            "lceq_db": to_db(self.c_mean_square),
            "lzeq_db": to_db(self.z_mean_square),
            "lcpeak_db": to_db(self.c_peak**2),
        }
        return {name: calibrated(level_db, calibration_db) for name, level_db in found.items()}


@dataclass(frozen=True, eq=False, kw_only=True)
class Totals:
    """A meter's sums over a whole recording; full scale is 1.

    Attributes
    ----------
    duration_s
        Length of the recording without its holes.
    a_mean_square, c_mean_square, z_mean_square
        Over the whole recording, averaged over the used channels. Z is without the constant part.
    fast_max, slow_max
        Greatest A-weighted mean square with time weighting F and S, both of which start from
        silence, like an instrument that is switched on.
    fast_min
        Minimum with time weighting F, after the start-up; ``None`` if the recording is shorter.
    c_peak
        Greatest C-weighted amplitude of any used channel.
    histogram, tick_s
        Histogram of LAF, sampled every ``tick_s`` after the start-up.
    band_mean_squares
        Mean square of each third-octave band by number, averaged over the used channels; ``None``
        if not measured.
    channels
        All channels, whether used or not; empty in totals that were stored before they were kept.
    used
        Indices of the used channels, which all other attributes are of.
    """

    duration_s: float
    a_mean_square: float = 0.0
    c_mean_square: float = 0.0
    z_mean_square: float = 0.0
    fast_max: float = 0.0
    slow_max: float = 0.0
    fast_min: float | None = None
    c_peak: float = 0.0
    histogram: Histogram
    tick_s: float
    band_mean_squares: dict[int, float] | None = None
    channels: list[ChannelTotals] = field(default_factory=list)
    used: list[int] = field(default_factory=list)

    def overall_db(self, calibration_db: float = 0.0) -> dict[str, float | None]:
        """Return the levels of the whole recording by name."""
        found = {
            "laeq_db": to_db(self.a_mean_square),
            "lceq_db": to_db(self.c_mean_square),
            "lzeq_db": to_db(self.z_mean_square),
            "lae_db": to_db(self.a_mean_square * self.duration_s),
            "lafmax_db": to_db(self.fast_max),
            "lasmax_db": to_db(self.slow_max),
            "lafmin_db": None if self.fast_min is None else to_db(self.fast_min),
            "lcpeak_db": to_db(self.c_peak**2),
        }
        return {name: calibrated(level_db, calibration_db) for name, level_db in found.items()}

    def percentiles_db(self, calibration_db: float = 0.0) -> dict[str, float | None]:
        """Return the percentile levels of LAF by name."""
        return {
            f"l{percent}_db": calibrated(self.histogram.exceeded_db(percent), calibration_db)
            for percent in PERCENTS
        }

    def third_octaves(self, calibration_db: float = 0.0) -> list[dict[str, float | None]] | None:
        """Return the Leq of the third-octave bands, from low to high; ``None`` if not measured."""
        if self.band_mean_squares is None:
            return None
        return [
            {
                "nominal_hz": third_octaves.NOMINAL_HZ[band],
                "exact_hz": round(third_octaves.exact_hz(band), 4),
                "lzeq_db": calibrated(to_db(mean_square), calibration_db),
            }
            for band, mean_square in self.band_mean_squares.items()
        ]

    def to_json(self) -> JsonDict:
        """Return plain data, with only the classes of the histogram that occurred."""
        return vars(self) | {
            "histogram": [
                [int(index), int(self.histogram.counts[index])]
                for index in np.flatnonzero(self.histogram.counts)
            ],
            "band_mean_squares": None
            if self.band_mean_squares is None
            else {str(band): value for band, value in self.band_mean_squares.items()},
            "channels": [vars(each) for each in self.channels],
        }

    @classmethod
    def from_json(cls, data: JsonDict) -> Totals:
        """Read the output of `to_json`."""
        counts = np.zeros(N_CLASSES, dtype=np.int64)
        for index, count in data["histogram"]:
            counts[index] = count
        of_bands = data["band_mean_squares"]
        if of_bands is not None:
            # JSON in a database does not preserve the order of keys.
            of_bands = {band: of_bands[str(band)] for band in sorted(map(int, of_bands))}
        channels = [ChannelTotals(**each) for each in data.get("channels", ())]
        read = {"histogram": Histogram(counts), "band_mean_squares": of_bands, "channels": channels}
        known = {name: value for name, value in data.items() if name in cls.__dataclass_fields__}
        return cls(**known | read)


def lden_db(day_db: float, evening_db: float, night_db: float) -> float:
    """Day-evening-night level of Directive 2002/49/EC, annex I.

    12, 4 and 8 hours, with 5 dB added in the evening and 10 dB at night.
    """
    weighted = (
        12 * 10 ** (day_db / 10)
        + 4 * 10 ** ((evening_db + 5) / 10)
        + 8 * 10 ** ((night_db + 10) / 10)
    )
    return 10 * math.log10(weighted / 24)
