"""Holes in a recording, and the levels of the rest."""

from __future__ import annotations

import numpy as np
import pytest

from actors.science.levels.meter import LevelMeter
from actors.science.types import Hole, HoleKind


@pytest.mark.parametrize("offset", [0.0, 0.05])
@pytest.mark.parametrize("hole", [(0, 20_000), (12_345, 40_000), (16_000, 16_001), (3, 4_000)])
def test_holes_count_in_no_average_and_no_distribution(
    hole: tuple[int, int], offset: float
) -> None:
    """The levels are those of the sound before and after the hole."""
    rate_hz = 8_000
    samples = 0.01 * np.random.default_rng(0).normal(size=(12 * rate_hz, 1)).astype(np.float32)
    samples += np.float32(offset)
    whole = LevelMeter(rate_hz=rate_hz, n_channels=1)
    whole.push(samples)
    whole.finish()
    samples[slice(*hole)] = 0.0
    found = []
    for cuts in ([], list(range(0, len(samples), 777))):
        meter = LevelMeter(rate_hz=rate_hz, n_channels=1)
        meter.holes = [Hole(*hole, HoleKind.GAP)]
        for part in np.split(samples, cuts):
            meter.push(part)
        meter.finish()
        found.append(meter.totals())
    totals, cut = found
    wanted = whole.totals()
    assert totals.overall_db(0.0) == cut.overall_db(0.0)
    assert totals.duration_s == pytest.approx((len(samples) - hole[1] + hole[0]) / rate_hz)
    for name, level_db in totals.overall_db(0.0).items():
        if name in ("laeq_db", "lceq_db", "lzeq_db", "lafmin_db"):
            assert level_db == pytest.approx(wanted.overall_db(0.0)[name], abs=0.3), name
    # An edge is no click.
    assert totals.c_peak <= 1.1 * wanted.c_peak
    for name, level_db in totals.percentiles_db(0.0).items():
        assert level_db == pytest.approx(wanted.percentiles_db(0.0)[name], abs=0.3), name
