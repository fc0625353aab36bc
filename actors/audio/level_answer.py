"""The response about a recording's calibrated levels."""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

from actors.facts import rounding
from actors.science.levels import channels
from actors.science.levels.levels import LevelHistory
from actors.science.levels.totals import SILENCE, Totals
from actors.science.levels.weighting import supported_hz
from db.tables.documents.sessions import (
    Band,
    ChannelLevels,
    ChannelSummary,
    Levels,
    LevelSeries,
)
from db.tables.sessions import AudioSession


def of_the_whole(totals: Totals, calibration_db: float) -> dict[str, float | None]:
    """Return the overall and percentile levels of a recording by name."""
    found = totals.overall_db(calibration_db) | totals.percentiles_db(calibration_db)
    return {name: rounding.level(level_db) for name, level_db in found.items()}


def document(session: AudioSession, levels: LevelHistory, totals: Totals) -> Levels:
    """Return the response of ``GET /v1/sessions/{id}/levels``."""
    calibration_db = session.calibration_db or 0.0
    mean_square, fast_max = levels.seconds()
    return Levels(
        unit="dB",
        level_reference=session.level_reference,
        calibration_db=session.calibration_db,
        duration_s=rounding.seconds(levels.duration_s),
        supported_hz=supported_hz(levels.rate_hz),
        overall=of_the_whole(totals, calibration_db),
        laf_interval_s=totals.tick_s,
        channels=_channels(totals, calibration_db),
        third_octaves=_bands(totals, calibration_db),
        series=LevelSeries(
            step_s=1.0,
            laeq_db=_in_db(mean_square, calibration_db),
            lafmax_db=_in_db(fast_max, calibration_db),
        ),
    )


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
    bands = msgspec.convert(found, list[Band] | None)
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
