"""Plots of a day: the events of each hour, and their levels.

An hour extends from its start to that of the next one on the axis; ``labels`` name the starts,
which are integers from 0.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from textwrap import shorten

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

#: Distinguishable with any colour vision (Okabe and Ito); types without a separate colour are grey.
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7")
_REST = "#999999"
_PERIODS = {"day": "#FFFFFF", "evening": "#F3EFE3", "night": "#E6E9F0"}
_DPI = 160
_MOST_CHARS = 24
#: Sizes in inches: for a page, and for a phone, where the same text has less room around it.
SIZES_IN = {"wide": (9.0, 3.1), "narrow": (4.4, 3.5)}
#: Names are shown verbatim: a dollar sign does not start a formula.
_PLAIN = {"parse_math": False}
#: Width of a bar as a share of an hour.
_BAR_WIDTH = 0.86


def draw_events(
    by_type: Mapping[str, Sequence[int]], labels: Sequence[str], *, size_in: tuple[float, float]
) -> bytes:
    """Draw a bar of each hour's events by type; ``by_type`` has the most frequent type first."""
    return _png(events_figure(by_type, labels, size_in=size_in))


def events_figure(
    by_type: Mapping[str, Sequence[int]], labels: Sequence[str], *, size_in: tuple[float, float]
) -> Figure:
    """Return the figure of `draw_events`."""
    figure, axes = _figure(size_in)
    names = list(by_type)
    shown, rest = names[: len(_COLOURS)], names[len(_COLOURS) :]
    parts = [
        (name, np.array(by_type[name]), colour)
        for name, colour in zip(shown, _COLOURS, strict=False)
    ]
    if rest:
        parts.append((f"{len(rest)} more", np.sum([by_type[name] for name in rest], axis=0), _REST))
    bottom = np.zeros(len(labels))
    for name, counts, colour in parts:
        text = shorten(name.replace("_", " "), _MOST_CHARS, placeholder=" ...")
        axes.bar(
            np.arange(len(labels)) + 0.5,
            counts,
            bottom=bottom,
            color=colour,
            width=_BAR_WIDTH,
            label=text,
        )
        bottom += counts
    axes.set_ylabel("events")
    axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.set_ylim(0, max(1.0, 1.08 * float(bottom.max(initial=0.0))))
    if parts:
        legend = figure.legend(
            loc="outside upper left", ncols=4 if size_in[0] > 6 else 2, frameon=False, fontsize=8
        )
        for each in legend.get_texts():
            each.set_parse_math(False)
    return _with_hours(figure, axes, labels)


def draw_levels(
    levels_db: Sequence[float | None],
    labels: Sequence[str],
    periods: Sequence[str],
    *,
    unit: str,
    size_in: tuple[float, float],
) -> bytes:
    """Draw the level of each hour, over the periods of the day; hours without a level are empty."""
    return _png(levels_figure(levels_db, labels, periods, unit=unit, size_in=size_in))


def levels_figure(
    levels_db: Sequence[float | None],
    labels: Sequence[str],
    periods: Sequence[str],
    *,
    unit: str,
    size_in: tuple[float, float],
) -> Figure:
    """Return the figure of `draw_levels`."""
    figure, axes = _figure(size_in)
    for at, period in enumerate(periods):
        axes.axvspan(at, at + 1, color=_PERIODS[period], linewidth=0)
    known = np.array([np.nan if each is None else each for each in levels_db])
    axes.hlines(
        known, np.arange(known.size), np.arange(known.size) + 1, color=_COLOURS[0], linewidth=2.4
    )
    axes.set_ylabel(f"LAeq ({unit})")
    if np.isfinite(known).any():
        axes.set_ylim(np.nanmin(known) - 4.0, np.nanmax(known) + 4.0)
    for period in ("night", "evening"):
        axes.bar(0, 0, color=_PERIODS[period], edgecolor="#BBBBBB", linewidth=0.6, label=period)
    figure.legend(loc="outside upper left", ncols=2, frameon=False, fontsize=8)
    return _with_hours(figure, axes, labels)


def _figure(size_in: tuple[float, float]) -> tuple[Figure, Axes]:
    figure = Figure(figsize=size_in, dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.grid(axis="y", color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure, axes


def _with_hours(figure: Figure, axes: Axes, labels: Sequence[str]) -> Figure:
    """Add an axis of hours, with fewer labels on narrow figures."""
    every = 2 if figure.get_figwidth() > 6 else 4
    axes.set_xlim(-0.1, len(labels) + 0.1)
    at = range(0, len(labels), every)
    # Without the UTC offset, which is in the table.
    axes.set_xticks(at, [labels[index][:5] for index in at], **_PLAIN)
    axes.tick_params(labelsize=8)
    axes.yaxis.label.set_fontsize(9)
    return figure


def _png(figure: Figure) -> bytes:
    out = io.BytesIO()
    figure.savefig(out, format="png")
    return out.getvalue()
