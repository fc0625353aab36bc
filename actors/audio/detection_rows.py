"""The rows of detections, with levels as they are shown."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from actors.facts import rounding
from actors.science.levels.totals import calibrated
from actors.science.types import Event
from db.queries.session_queries import NewDetectionRow
from db.tables.detections import StoredCandidate


def as_shown(heard: Sequence[Event], calibration_db: float | None) -> list[Event]:
    """Return detections with calibrated levels, rounded as in responses."""

    def shown(level_db: float | None) -> float | None:
        return rounding.level(calibrated(level_db, calibration_db or 0.0))

    return [
        dataclasses.replace(
            event,
            start_s=rounding.seconds(event.start_s),
            end_s=rounding.seconds(event.end_s),
            # Rows have the same decimals, so that a filter by confidence matches what is shown.
            confidence=rounding.share(event.confidence),
            candidates=tuple(
                dataclasses.replace(each, score=rounding.share(each.score))
                for each in event.candidates
            ),
            laeq_db=shown(event.laeq_db),
            lafmax_db=shown(event.lafmax_db),
            lae_db=shown(event.lae_db),
            lasmax_db=shown(event.lasmax_db),
            lcpeak_db=shown(event.lcpeak_db),
            background_la90_db=shown(event.background_la90_db),
            emergence_db=rounding.level(event.emergence_db),
            above_background_s=None
            if event.above_background_s is None
            else rounding.seconds(event.above_background_s),
            third_octaves_db=None
            if event.third_octaves_db is None
            else tuple(map(shown, event.third_octaves_db)),
        )
        for event in heard
    ]


def columns(event: Event) -> NewDetectionRow:
    """Return the columns of a detection."""
    return NewDetectionRow(
        start_s=event.start_s,
        end_s=event.end_s,
        noise_type=event.noise_type,
        confidence=event.confidence,
        laeq_db=event.laeq_db,
        lafmax_db=event.lafmax_db,
        lae_db=event.lae_db,
        lasmax_db=event.lasmax_db,
        lcpeak_db=event.lcpeak_db,
        background_la90_db=event.background_la90_db,
        emergence_db=event.emergence_db,
        above_background_s=event.above_background_s,
        overloaded=event.overloaded,
        third_octaves_db=None if event.third_octaves_db is None else list(event.third_octaves_db),
        candidates=[
            StoredCandidate(noise_type=each.noise_type, score=each.score)
            for each in event.candidates
        ],
    )
