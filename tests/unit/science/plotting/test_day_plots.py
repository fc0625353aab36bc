"""Position of the hours in the plots of a day."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.collections import LineCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from actors.science.plotting import day_plots

LABELS = [f"{hour:02d}:00" for hour in range(24)]
PERIODS = ["night"] * 7 + ["day"] * 12 + ["evening"] * 4 + ["night"]
NIGHT = "#e6e9f0"


def named_at(figure: Figure) -> dict[str, float]:
    """Return the positions of the hour labels on the axis."""
    axes = figure.axes[0]
    return {
        label.get_text(): at
        for at, label in zip(axes.get_xticks(), axes.get_xticklabels(), strict=True)
    }


@pytest.mark.parametrize("size_in", day_plots.SIZES_IN.values(), ids=day_plots.SIZES_IN)
def test_a_bar_lies_between_the_names_of_its_hour_and_the_next(
    size_in: tuple[float, float],
) -> None:
    figure = day_plots.events_figure({"dog": [0] * 8 + [3] + [0] * 15}, LABELS, size_in=size_in)
    [bar] = [
        each
        for each in figure.axes[0].patches
        if isinstance(each, Rectangle) and each.get_height() == 3
    ]
    names = named_at(figure)
    assert names["08:00"] < bar.get_x() < bar.get_x() + bar.get_width() < names["08:00"] + 1
    assert names["12:00"] - names["08:00"] == 4
    left, right = figure.axes[0].get_xlim()
    assert left <= 0
    assert right >= 24


@pytest.mark.parametrize("size_in", day_plots.SIZES_IN.values(), ids=day_plots.SIZES_IN)
def test_levels_and_periods_begin_at_the_names_of_their_hours(
    size_in: tuple[float, float],
) -> None:
    levels_db = [40.0 if hour == 8 else None for hour in range(24)]
    figure = day_plots.levels_figure(levels_db, LABELS, PERIODS, unit="dB", size_in=size_in)
    axes, names = figure.axes[0], named_at(figure)
    [lines] = [each for each in axes.collections if isinstance(each, LineCollection)]
    [line] = [np.asarray(each) for each in lines.get_segments() if len(each)]
    assert line[:, 0].tolist() == [names["08:00"], names["08:00"] + 1]
    nights = [
        each.get_x()
        for each in axes.patches
        if isinstance(each, Rectangle)
        and each.get_height() == 1
        and to_hex(each.get_facecolor()) == NIGHT
    ]
    # From midnight until seven, and from eleven at night on, without an offset of half an hour.
    assert sorted(nights) == [0, 1, 2, 3, 4, 5, 6, 23]
    assert names["00:00"] == 0
