"""A picture of a recording: its spectrogram with the events on it, and its level over time."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MultipleLocator, NullFormatter
from numpy.typing import NDArray

from actors.science.chunks import RATE_HZ
from actors.science.decode import Decoder
from actors.science.levels import STEP_S, LevelSeries
from actors.science.meter import LevelMeter
from actors.science.prepare import MonoResampler
from actors.science.types import Event

#: Columns of the spectrogram: more than the picture has pixels is wasted.
MOST_COLUMNS = 2_000

#: Bands of the spectrogram, evenly spaced on the logarithmic axis.
N_BANDS = 160
LOWEST_HZ, HIGHEST_HZ = 40.0, 8_000.0

#: What the colours span, below the loudest cell, in dB.
_DYNAMIC_DB = 75.0

#: Window and step of the spectrogram at 16 kHz.
_N_FFT = 2_048
_HOP = 800

#: Colours that are told apart with any colour vision (Okabe and Ito), lighter first: they lie on
#: a dark spectrogram. The types are told by their row and name as well.
_COLOURS = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#CC79A7", "#D55E00", "#0072B2", "#999999")

#: Events beyond this many carry no text of their own.
_MOST_TEXTS = 60
_DPI = 110

#: Part of the picture's width that a confidence takes.
_TEXT_SHARE = 0.03

#: Steps of a time axis that is labelled in minutes and hours.
_CLOCK_STEPS_S = (30, 60, 120, 300, 600, 1_200, 1_800, 3_600)


@dataclass(frozen=True, eq=False)
class _Picture:
    """What is drawn: band powers in dB [shape=(N_BANDS, n_columns)], a column's length, levels."""

    bands_db: NDArray[np.float32]
    column_s: float
    levels: LevelSeries


def draw(decoder: Decoder, events: Sequence[Event], *, title: str) -> bytes:
    """Draw a recording and its events.

    Parameters
    ----------
    decoder
        An opened recording, not read yet. It is streamed: two hours take no more memory than
        two minutes.
    events
        What was found in it; each noise type has a colour and a row.
    title
        Stands above the picture.

    Returns
    -------
    bytes
        A PNG file: above, the power in logarithmic frequency bands, in dB below the loudest;
        below, the A-weighted level with fast time weighting, in dB re digital full scale.

    Raises
    ------
    RecordingError
        As `Decoder.blocks`.
    """
    picture = _listen(decoder)
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
    _draw_spectrogram(spectrogram, picture)
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
    # A picture of a few milliseconds has no room for its own ticks.
    level.set_xlim(0.0, max(duration_s, STEP_S))
    out = io.BytesIO()
    figure.savefig(out, format="png")
    return out.getvalue()


def _draw_lanes(
    axes: Axes, events: Sequence[Event], *, colours: dict[str, str], duration_s: float
) -> None:
    """A row for each noise type, a bar for each event, its confidence in or behind it."""
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


def _draw_spectrogram(axes: Axes, picture: _Picture) -> None:
    top_db = float(picture.bands_db.max())
    mesh = axes.pcolormesh(
        np.arange(picture.bands_db.shape[1] + 1) * picture.column_s,
        _band_edges_hz(),
        np.maximum(picture.bands_db - top_db, -_DYNAMIC_DB),
        cmap="magma",
        vmin=-_DYNAMIC_DB,
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


def _draw_level(axes: Axes, levels: LevelSeries) -> None:
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


def _listen(decoder: Decoder) -> _Picture:
    """Stream a recording into band powers and levels."""
    audio = decoder.format
    meter = LevelMeter(rate_hz=audio.rate_hz, n_channels=audio.n_channels)
    resampler = MonoResampler(rate_hz=audio.rate_hz)
    columns = _Columns()
    for block in decoder.blocks():
        meter.push(block)
        columns.push(resampler.push(block))
    columns.push(resampler.finish())
    bands_db = columns.finish()
    return _Picture(bands_db, columns.column_s, meter.finish())


class _Columns:
    """Columns of band power, of equal length and at most `MOST_COLUMNS` of them.

    The length of a recording may not be known before its end. So columns start short, and
    whenever there are too many, each two become one.
    """

    def __init__(self) -> None:
        self._bank = _band_bank()
        self._window = np.hanning(_N_FFT).astype(np.float32)
        self._waiting = np.zeros(_N_FFT // 2, dtype=np.float32)
        self._columns: list[NDArray[np.float32]] = []
        self._frames_each = 1
        self._open: list[NDArray[np.float32]] = []

    def push(self, samples: NDArray[np.float32]) -> None:
        waiting = np.concatenate([self._waiting, samples])
        n_frames = max(0, (waiting.size - _N_FFT) // _HOP + 1)
        if n_frames:
            windows = np.lib.stride_tricks.sliding_window_view(waiting, _N_FFT)
            spectrum = np.fft.rfft(windows[: n_frames * _HOP : _HOP] * self._window)
            power = np.square(np.abs(spectrum)).astype(np.float32)
            for frame in power @ self._bank:
                self._add(frame)
        self._waiting = waiting[n_frames * _HOP :]

    def finish(self) -> NDArray[np.float32]:
        """Band powers in dB [shape=(N_BANDS, n_columns)]."""
        self.push(np.zeros(_N_FFT // 2, dtype=np.float32))
        last = [np.max(self._open, axis=0)] if self._open else []
        bands = np.array([*self._columns, *last] or [np.zeros(N_BANDS, dtype=np.float32)])
        return np.asarray(10.0 * np.log10(bands.T + 1e-10), dtype=np.float32)

    @property
    def column_s(self) -> float:
        """How many seconds a column stands for."""
        return self._frames_each * _HOP / RATE_HZ

    def _add(self, frame: NDArray[np.float32]) -> None:
        self._open.append(frame)
        if len(self._open) < self._frames_each:
            return
        self._columns.append(np.max(self._open, axis=0))
        self._open = []
        if len(self._columns) == MOST_COLUMNS:
            pairs = np.array(self._columns).reshape(-1, 2, N_BANDS)
            self._columns = list(pairs.max(axis=1))
            self._frames_each *= 2


def _band_edges_hz() -> NDArray[np.float64]:
    return np.geomspace(LOWEST_HZ, HIGHEST_HZ, N_BANDS + 1)


def _band_bank() -> NDArray[np.float32]:
    """Triangles in logarithmic frequency [shape=(n_bins, N_BANDS)]; each weighs the same.

    Below about 300 Hz bands are narrower than bins; every band then reads between two bins.
    """
    bins_hz = np.fft.rfftfreq(_N_FFT, 1 / RATE_HZ)
    edges_hz = _band_edges_hz()
    centres_hz = np.sqrt(edges_hz[:-1] * edges_hz[1:])
    reach_hz = np.maximum(np.diff(edges_hz), bins_hz[1])
    distance = np.abs(bins_hz[:, None] - centres_hz[None, :]) / reach_hz
    bank = np.maximum(1.0 - distance, 0.0)
    normalised: NDArray[np.float32] = (bank / bank.sum(axis=0)).astype(np.float32)
    return normalised


def _hertz(value: float, _position: int | None = None) -> str:
    return f"{value / 1_000:g}k" if value >= 1_000 else f"{value:g}"


def _clock(seconds: float, _position: int | None = None) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
