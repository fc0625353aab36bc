"""Frequency weightings against Table 3 of IEC 61672-1, by response and as measured."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import signal

from actors.science.levels.weighting import POLES_HZ, a_weighting, c_weighting, supported_hz
from tests.support.metering import metered, rows, sine

TABLE = rows("iec61672_weighting.csv")
RATES_HZ = (8_000, 11_025, 16_000, 22_050, 32_000, 44_100, 48_000, 96_000)
Design = Callable[[int], NDArray[np.float64]]
FULL_SCALE_SINE_DB = -3.0103


@pytest.mark.parametrize("rate_hz", RATES_HZ)
@pytest.mark.parametrize(("column", "design"), [("a_db", a_weighting), ("c_db", c_weighting)])
def test_every_row_below_nyquist_keeps_class_1(rate_hz: int, column: str, design: Design) -> None:
    below = [row for row in TABLE if row["exact_hz"] < rate_hz / 2]
    assert len(below) == len(TABLE) or rate_hz < 40_000
    _, response = signal.freqz_sos(
        design(rate_hz), worN=[row["exact_hz"] for row in below], fs=rate_hz
    )
    for row, gain in zip(below, np.abs(response), strict=True):
        off_db = 20 * math.log10(gain) - row[column]
        assert row["class1_lower_db"] <= off_db <= row["class1_upper_db"], (rate_hz, row)


@pytest.mark.parametrize("rate_hz", [4_000, *RATES_HZ, 192_000, 768_000])
def test_the_supported_range_is_close_to_the_analogue_filter(rate_hz: int) -> None:
    first, last = supported_hz(rate_hz)
    hz = np.geomspace(first, last, 500)

    def analogue(at_hz: NDArray[np.float64]) -> NDArray[np.float64]:
        low, _, _, high = POLES_HZ
        response: NDArray[np.float64] = at_hz**2 / ((at_hz**2 + low**2) * (at_hz**2 + high**2))
        return response

    _, response = signal.freqz_sos(c_weighting(rate_hz), worN=hz, fs=rate_hz)
    wanted = analogue(hz) / analogue(np.array([1000.0]))
    off_db = 20 * np.log10(np.abs(response) / wanted)
    assert np.abs(off_db).max() < 0.3


def test_what_is_supported_is_stated_for_each_rate() -> None:
    assert supported_hz(8_000)[1] == pytest.approx(3_630, abs=1)
    assert supported_hz(44_100)[1] > 19_952.7
    assert supported_hz(96_000) == (10.0, 20_000.0)


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 22_050, 44_100, 48_000, 96_000])
def test_measured_sines_have_the_weighted_levels(rate_hz: int) -> None:
    for row in TABLE:
        if row["exact_hz"] > supported_hz(rate_hz)[1]:
            continue
        # Long enough for the onset to be negligible in C; A is read after it.
        series, totals = metered(sine(rate_hz, hz=row["exact_hz"], seconds=4), rate_hz)
        laeq_db, lceq_db = series.laeq_db(2.0, 4.0), totals.overall_db()["lceq_db"]
        assert laeq_db is not None
        assert lceq_db is not None
        for level_db, column in ((laeq_db, "a_db"), (lceq_db, "c_db")):
            off_db = level_db - FULL_SCALE_SINE_DB - row[column]
            assert row["class1_lower_db"] <= off_db <= row["class1_upper_db"], (column, row)
        assert totals.overall_db()["lzeq_db"] == pytest.approx(FULL_SCALE_SINE_DB, abs=0.01)
