"""The response about a recording's calibrated levels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from actors.facts import rounding
from actors.science.levels import channels, indications
from actors.science.levels.levels import LevelHistory
from actors.science.levels.totals import PERCENTS, SILENCE, Totals
from actors.science.levels.weighting import supported_hz
from actors.science.summaries import local_day
from db import typed
from db.queries.stage_results import QuarterColumns
from db.tables.documents.sessions import (
    Band,
    ChannelLevels,
    ChannelSummary,
    Levels,
    LevelSeries,
    Overload,
    UnderRange,
)
from db.tables.sessions import AudioSession

#: The levels that can be compared with an A-weighted noise floor; the others are not A-weighted, or
#: are of one second.
_A_WEIGHTED = frozenset(
    {"laeq_db", "lafmax_db", "lasmax_db", "lafmin_db", *(f"l{each}_db" for each in PERCENTS)}
)


def of_the_whole(totals: Totals, calibration_db: float) -> dict[str, float | None]:
    """Return the overall and percentile levels of a recording by name."""
    found = totals.overall_db(calibration_db) | totals.percentiles_db(calibration_db)
    return {name: rounding.level(level_db) for name, level_db in found.items()}


def document(session: AudioSession, levels: LevelHistory, totals: Totals) -> Levels:
    """Return the response of ``GET /v1/sessions/{id}/levels``."""
    calibration_db = session.calibration_db or 0.0
    mean_square, fast_max = levels.seconds()
    recorded_s = levels.recorded_steps(step_s=1.0)
    overloaded = indications.overloaded_steps(levels, step_s=1.0)
    least_db = _least_in_range_db(session)
    level_db = _in_db(mean_square, calibration_db)
    return Levels(
        unit="dB",
        level_reference=session.level_reference,
        calibration_db=session.calibration_db,
        duration_s=rounding.seconds(levels.duration_s),
        supported_hz=supported_hz(levels.rate_hz),
        overall=of_the_whole(totals, calibration_db),
        overload=overload(levels),
        under_range=under_range(session, levels, totals),
        laf_interval_s=totals.tick_s,
        channels=_channels(totals, calibration_db),
        third_octaves=_bands(totals, calibration_db),
        series=LevelSeries(
            step_s=1.0,
            laeq_db=level_db,
            lafmax_db=_in_db(fast_max, calibration_db),
            overloaded=None if overloaded is None else (overloaded > 0).tolist(),
            under_range=None
            if least_db is None
            else _below(level_db, recorded_s, least_db).tolist(),
        ),
    )


def overload(levels: LevelHistory) -> Overload | None:
    """Return the overloaded part of a recording; None if it was not measured."""
    found = indications.overloaded_time(levels)
    if found is None:
        return None
    return Overload(
        overloaded_s=rounding.seconds(found.total_s),
        share=_share(found.total_s, levels),
        first_s=None if found.first_s is None else rounding.seconds(found.first_s),
    )


def under_range(session: AudioSession, levels: LevelHistory, totals: Totals) -> UnderRange | None:
    """Return the part of a recording that is under-range; None without a noise floor."""
    least_db = _least_in_range_db(session)
    if least_db is None:
        return None
    calibration_db = session.calibration_db or 0.0
    mean_square, _ = levels.seconds()
    recorded_s = levels.recorded_steps(step_s=1.0)
    is_below = _below(_in_db(mean_square, calibration_db), recorded_s, least_db)
    below_s = float(recorded_s[is_below].sum())
    return UnderRange(
        limit_db=round(least_db, rounding.LEVEL_DECIMALS),
        under_range_s=rounding.seconds(below_s),
        share=_share(below_s, levels),
        upper_bounds=[
            name
            for name, level_db in of_the_whole(totals, calibration_db).items()
            if name in _A_WEIGHTED and level_db is not None and level_db < least_db
        ],
    )


def by_quarters(session: AudioSession, levels: LevelHistory) -> QuarterColumns:
    """Return the figures for daily reports; None without a time of recording."""
    if session.recorded_at is None:
        return QuarterColumns(
            quarter_mean_squares=None, quarter_overloads=None, quarter_overload_energies=None
        )
    begun_s = local_day.lead_s(session.recorded_at)
    shares = indications.overload_on_grid(levels, step_s=local_day.QUARTER_S, lead_s=begun_s)
    return QuarterColumns(
        quarter_mean_squares=levels.on_grid(step_s=local_day.QUARTER_S, lead_s=begun_s).tolist(),
        quarter_overloads=None if shares is None else shares.time.tolist(),
        quarter_overload_energies=None if shares is None else shares.energy.tolist(),
    )


def _share(part_s: float, levels: LevelHistory) -> float:
    """Return a time as a share of the recorded time, which a single hole may leave without any."""
    return rounding.share(part_s / levels.recorded_s) if levels.recorded_s else 0.0


def _least_in_range_db(session: AudioSession) -> float | None:
    """Return the lowest level in range in dB SPL; None without a noise floor and a calibration."""
    if session.noise_floor_db is None or session.calibration_db is None:
        return None
    return indications.least_in_range_db(session.noise_floor_db)


def _below(
    levels_db: Sequence[float | None], recorded_s: NDArray[np.float64], least_db: float
) -> NDArray[np.bool_]:
    """Return which recorded seconds are below a limit, as digital silence is."""
    is_below = [level_db is None or level_db < least_db for level_db in levels_db]
    return np.array(is_below, dtype=np.bool_) & (recorded_s > 0)


def channel_summary(totals: Totals) -> ChannelSummary | None:
    """Return which channels are used, and why the others may not be; None for a single channel."""
    if len(totals.channels) < 2:
        return None

    def numbers(state: str) -> list[int]:
        return [number for number, each in enumerate(totals.channels, 1) if each.state == state]

    return ChannelSummary(
        used=[index + 1 for index in totals.used],
        silent=numbers(channels.SILENT),
        identical=numbers(channels.IDENTICAL),
        inverted=numbers(channels.INVERTED),
    )


def _channels(totals: Totals, calibration_db: float) -> list[ChannelLevels]:
    return [
        ChannelLevels(
            channel=index + 1,
            is_used=index in totals.used,
            state=each.state,
            other_channel=None if each.other is None else each.other + 1,
            **{
                name: rounding.level(level_db)
                for name, level_db in each.overall_db(calibration_db).items()
            },
        )
        for index, each in enumerate(totals.channels)
    ]


def _bands(totals: Totals, calibration_db: float) -> list[Band] | None:
    found = totals.third_octaves(calibration_db)
    bands = typed.convert(found, list[Band] | None)
    for band in bands or ():
        band.lzeq_db = rounding.level(band.lzeq_db)
    return bands


def _in_db(mean_squares: NDArray[np.float64], calibration_db: float) -> list[float | None]:
    level_db = 10 * np.log10(np.maximum(mean_squares, SILENCE)) + calibration_db
    return [
        None if is_silent else level
        for level, is_silent in zip(
            level_db.round(rounding.LEVEL_DECIMALS).tolist(), mean_squares <= SILENCE, strict=True
        )
    ]
