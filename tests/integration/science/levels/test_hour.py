"""Levels of an hour, measured sample by sample."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.metering import exact, metered, tone

#: The lowest rate at which 1 kHz is still measured.
RATE_HZ = 4_000


def test_the_equivalent_level_of_an_hour_with_a_loud_second() -> None:
    expected, tolerance = exact("leq_db", "one second at 100 dB in a 60 dB hour")
    parts = [(60, 1_800), (100, 1), (60, 1_799)]
    samples = np.concatenate([tone(level_db, s, rate_hz=RATE_HZ) for level_db, s in parts])
    minutes = range(60 * RATE_HZ, samples.size, 60 * RATE_HZ)
    found = metered(samples, RATE_HZ, cuts=minutes)[1].overall_db(100)
    for level in ("laeq_db", "lceq_db", "lzeq_db"):
        assert found[level] == pytest.approx(expected, abs=tolerance), level
