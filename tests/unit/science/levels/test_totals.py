"""Percentile levels, their histogram, storage, and the day-evening-night level."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.science.levels.totals import Histogram, Totals, lden_db
from tests.support.metering import metered, table


def histogram(*levels_db: float) -> Histogram:
    return Histogram.of(10 ** (np.array(levels_db) / 10))


def test_l10_is_exceeded_for_a_tenth_of_the_time() -> None:
    found = histogram(*np.linspace(-100, 0, 100_001))
    for percent in (1, 5, 10, 50, 90, 95, 99):
        assert found.exceeded_db(percent) == pytest.approx(-percent, abs=0.01)
    loud_for_a_fifth = histogram(*[-20.0] * 20, *[-60.0] * 80)
    assert loud_for_a_fifth.exceeded_db(10) == pytest.approx(-20, abs=0.1)
    assert loud_for_a_fifth.exceeded_db(50) == pytest.approx(-60, abs=0.1)


@given(
    levels_db=st.lists(st.floats(-150, 20), min_size=1, max_size=200),
    percent=st.sampled_from([5, 10, 50, 90, 95]),
)
def test_a_percentile_is_one_of_the_levels_to_within_a_class(
    levels_db: list[float], percent: int
) -> None:
    wanted = np.percentile(levels_db, 100 - percent, method="inverted_cdf")
    above = np.percentile(levels_db, 100 - percent, method="higher")
    found = histogram(*levels_db).exceeded_db(percent)
    assert found is not None
    assert min(wanted, above) - 0.11 <= found <= max(wanted, above) + 0.11


@given(
    levels_db=st.lists(st.floats(-150, 20), min_size=2, max_size=60),
    cut=st.integers(0, 60),
)
def test_histograms_of_parts_add_up_to_that_of_the_whole(levels_db: list[float], cut: int) -> None:
    whole = histogram(*levels_db)
    parts = histogram(*levels_db[:cut]) + histogram(*levels_db[cut:])
    np.testing.assert_array_equal(parts.counts, whole.counts)
    assert parts.exceeded_db(10) == whole.exceeded_db(10)


def test_recordings_add_up_where_percentiles_cannot_be_averaged() -> None:
    rng = np.random.default_rng(5)
    loud, faint = rng.normal(0, 0.1, 80_000), rng.normal(0, 0.001, 160_000)
    parts = [metered(each, 8_000)[1].histogram for each in (loud, faint)]
    together = parts[0] + parts[1]
    whole = metered(np.concatenate([loud, faint]), 8_000)[1].histogram
    for percent in (10, 90):
        assert together.exceeded_db(percent) == pytest.approx(
            whole.exceeded_db(percent) or 0, abs=0.3
        )
    medians = [each.exceeded_db(10) or 0 for each in parts]
    assert abs(np.mean(medians) - (whole.exceeded_db(10) or 0)) > 10


@pytest.mark.parametrize("third_octaves", [False, True])
def test_totals_survive_storage(third_octaves: bool) -> None:
    samples = np.random.default_rng(1).normal(0, 0.1, (30_011, 2))
    totals = metered(samples, 16_000, third_octaves=third_octaves)[1]
    stored = json.dumps(totals.to_json(), sort_keys=True, allow_nan=False)
    again = Totals.from_json(json.loads(stored))
    assert again.overall_db(94) == totals.overall_db(94)
    assert again.percentiles_db() == totals.percentiles_db()
    assert again.third_octaves() == totals.third_octaves()


@pytest.mark.parametrize(
    "row", [row for row in table("exact_vectors.csv") if row["quantity"] == "lden_db"]
)
def test_the_day_evening_night_level(row: dict[str, str]) -> None:
    day, evening, night = (float(number) for number in re.findall(r"[\d.]+", row["input"]))
    assert lden_db(day, evening, night) == pytest.approx(
        float(row["expected"]), abs=float(row["tolerance"])
    )
