"""The plot of a recording: its spectrogram with the events on it, and its level over time."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MultipleLocator, NullFormatter
from numpy.typing import NDArray

from actors.facts.channel_rules import ENERGY_MEAN
from actors.science.audio_io.decode import open_recording
from actors.science.audio_io.prepare import MonoResampler, prepare, used_channels
from actors.science.audio_io.spectrogram import (
    DYNAMIC_DB,
    HIGHEST_HZ,
    LOWEST_HZ,
    MOST_COLUMNS,
    Spectrogram,
    band_edges_hz,
)
from actors.science.levels.levels import STEP_S, LevelHistory
from actors.science.types import Event

#: Colours that are distinguishable with any colour vision (Okabe and Ito), lighter ones first,
#: since the spectrogram is dark. The types also have separate rows and names.
_COLOURS = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#CC79A7", "#D55E00", "#0072B2", "#999999")

#: Beyond this number, events have no text.
_MOST_TEXTS = 60
_DPI = 110

#: Width of a confidence as a share of the plot.
_TEXT_SHARE = 0.03

#: Tick intervals of a time axis in minutes and hours.
_CLOCK_STEPS_S = (30, 60, 120, 300, 600, 1_200, 1_800, 3_600)


@dataclass(frozen=True, eq=False)
class _Picture:
    """The plotted data: band powers in dB [shape=(N_BANDS, n_columns)], and levels."""

    bands_db: NDArray[np.float32]
    levels: LevelHistory


def draw(file: BinaryIO, events: Sequence[Event], *, title: str) -> bytes:
    """Draw a recording and its events.

    Parameters
    ----------
    file
        A recording, seekable. It is streamed: two hours take no more memory than two minutes.
    events
        The detected events; each noise type has a colour and a row.
    title
        Title above the plot.

    Returns
    -------
    bytes
        A PNG file: at the top, the power in logarithmic frequency bands, in dB below the maximum;
        below it, the A-weighted level with fast time weighting, in dB re digital full scale.

    Raises
    ------
    RecordingError
        As `prepare`.
    """
    picture = _measure(file)
    types = sorted({event.noise_type for event in events})
    lanes_in = 0.24 * max(len(types), 1)
    figure = Figure(figsize=(12.0, 5.6 + lanes_in), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(
        3, 1, sharex=True, gridspec_kw={"height_ratios": [lanes_in, 3.4, 1.6]}, squeeze=False
    )
    lanes, spectrogram, level = grid[:, 0]
    figure.suptitle(title, x=0.01, ha="left", fontsize=13, fontweight="bold")
    colours = {name: _COLOURS[index % len(_COLOURS)] for index, name in enumerate(types)}
    duration_s = picture.levels.duration_s
    _draw_lanes(lanes, events, colours=colours, duration_s=duration_s)
    _draw_spectrogram(spectrogram, picture.bands_db, duration_s=duration_s)
    _draw_level(level, picture.levels)
    for event in events:
        for axes in (spectrogram, level):
            is_level = axes is level
            axes.axvspan(
                event.start_s,
                event.end_s,
                facecolor=colours[event.noise_type] if is_level else "none",
                edgecolor=colours[event.noise_type],
                alpha=0.35 if is_level else 0.9,
                linewidth=0 if is_level else 1.4,
            )
    # A plot of a few milliseconds would be too narrow for ticks.
    level.set_xlim(0.0, max(duration_s, STEP_S))
    out = io.BytesIO()
    figure.savefig(out, format="png")
    return out.getvalue()


def draw_clip(
    samples: NDArray[np.float32],
    rate_hz: int,
    *,
    used: Sequence[int],
    event_s: tuple[float, float],
    title: str,
) -> bytes:
    """Draw the spectrogram of a clip, with the start and end of its event.

    Parameters
    ----------
    samples
        [shape=(n, n_channels)], full scale = 1.0, with at least one sample.
    used
        Indices of the channels that were analysed; empty if unknown: then all are drawn.
    event_s
        Start and end of the event within the clip.

    Returns
    -------
    bytes
        A PNG file.
    """
    drawn = used or range(samples.shape[1])
    resampler, spectrogram = MonoResampler(rate_hz=rate_hz, used=drawn), Spectrogram()
    spectrogram.push(resampler.push(samples))
    spectrogram.push(resampler.finish())
    duration_s = len(samples) / rate_hz
    figure = Figure(figsize=(6.0, 3.4), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    # A dollar sign would start a formula.
    axes.set_title(title, loc="left", fontsize=11, parse_math=False)
    _draw_spectrogram(axes, spectrogram.finish(), duration_s=duration_s)
    for edge_s in event_s:
        if 0.0 < edge_s < duration_s:
            axes.axvline(edge_s, color="white", linewidth=1.2, linestyle="--")
    axes.set_xlim(0.0, duration_s)
    axes.set_xlabel("Time (s)")
    out = io.BytesIO()
    figure.savefig(out, format="png")
    return out.getvalue()


def _draw_lanes(
    axes: Axes, events: Sequence[Event], *, colours: dict[str, str], duration_s: float
) -> None:
    """Draw a row for each noise type, a bar for each event, its confidence inside or after it."""
    names = list(colours)
    text_s = _TEXT_SHARE * duration_s
    for event in events:
        row = names.index(event.noise_type)
        length_s = event.end_s - event.start_s
        axes.barh(row, length_s, left=event.start_s, height=0.8, color=colours[event.noise_type])
        fits_inside = length_s > text_s
        is_free_behind = event.end_s + text_s < duration_s and not any(
            other.noise_type == event.noise_type
            and event.end_s - 1e-9 <= other.start_s < event.end_s + text_s
            for other in events[:_MOST_TEXTS]
        )
        if len(events) <= _MOST_TEXTS and (fits_inside or is_free_behind):
            axes.text(
                event.start_s + length_s / 2 if fits_inside else event.end_s + 0.1 * text_s,
                row,
                f"{event.confidence:.0%}",
                ha="center" if fits_inside else "left",
                va="center_baseline",
                fontsize=8,
                color="black",
            )
    axes.set_yticks(range(len(names)), [name.replace("_", " ") for name in names], fontsize=9)
    axes.set_ylim(max(len(names), 1) - 0.4, -0.6)
    axes.tick_params(bottom=False, left=False)
    for side in ("top", "right", "bottom", "left"):
        axes.spines[side].set_visible(False)
    if not names:
        axes.text(0.5, 0.5, "no events", transform=axes.transAxes, ha="center", va="center")
        axes.set_yticks([])


def _draw_spectrogram(axes: Axes, bands_db: NDArray[np.float32], *, duration_s: float) -> None:
    top_db = float(bands_db.max())
    mesh = axes.pcolormesh(
        np.linspace(0.0, duration_s, bands_db.shape[1] + 1),
        band_edges_hz(),
        np.maximum(bands_db - top_db, -DYNAMIC_DB),
        cmap="magma",
        vmin=-DYNAMIC_DB,
        vmax=0.0,
        rasterized=True,
    )
    axes.set_yscale("log")
    axes.set_yticks([50, 100, 200, 500, 1_000, 2_000, 5_000])
    axes.yaxis.set_major_formatter(FuncFormatter(_hertz))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_ylim(LOWEST_HZ, HIGHEST_HZ)
    axes.set_ylabel("Frequency (Hz)")
    axes.figure.colorbar(mesh, ax=axes, label="dB below the loudest", pad=0.01, aspect=18)


def _draw_level(axes: Axes, levels: LevelHistory) -> None:
    times_s = (np.arange(levels.fast_max.size) + 0.5) * STEP_S
    per_column = max(1, levels.fast_max.size // MOST_COLUMNS)
    n_whole = max(levels.fast_max.size // per_column, 1) * per_column
    loudest = levels.fast_max[:n_whole].reshape(-1, per_column).max(axis=1)
    level_db = 10.0 * np.log10(np.maximum(loudest, 1e-12))
    axes.plot(times_s[:n_whole:per_column], level_db, color="#222222", linewidth=1.0)
    laeq_db = levels.laeq_db()
    if laeq_db is not None:
        axes.axhline(laeq_db, color="#555555", linewidth=0.9, linestyle="--")
        axes.set_title(f"dashed: LAeq {laeq_db:.1f} dBFS", loc="right", fontsize=9)
    axes.set_ylim(max(float(level_db.min()) - 3.0, -110.0), max(float(level_db.max()) + 3.0, -100))
    axes.set_ylabel("LAF (dBFS)")
    axes.set_xlabel("Time" if levels.duration_s > 180 else "Time (s)")
    if levels.duration_s > 180:
        step_s = next((s for s in _CLOCK_STEPS_S if levels.duration_s / s <= 10), 7_200)
        axes.xaxis.set_major_locator(MultipleLocator(step_s))
        axes.xaxis.set_major_formatter(FuncFormatter(_clock))
    axes.grid(axis="y", color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)


def _measure(file: BinaryIO) -> _Picture:
    """Stream a recording into band powers and levels."""
    used, spectrogram = used_channels(file, ENERGY_MEAN), Spectrogram()
    with open_recording(file) as decoder:
        prepared = prepare(decoder, used=used, write=lambda _: None, spectrogram=spectrogram)
    return _Picture(spectrogram.finish(), prepared.levels)


def _hertz(value: float, _position: int | None = None) -> str:
    return f"{value / 1_000:g}k" if value >= 1_000 else f"{value:g}"


def _clock(seconds: float, _position: int | None = None) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
