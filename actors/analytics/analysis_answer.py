"""Compute the analysis of a session."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from actors.facts import rounding
from actors.facts.noise_types import BACKGROUND, group_of
from actors.science.levels.indications import is_overloaded, overloaded_steps
from actors.science.levels.levels import EnergyCurve, LevelHistory
from actors.science.levels.totals import SILENCE
from actors.science.summaries import session_analysis
from actors.science.summaries.intervals import Intervals, covered_s
from actors.science.summaries.session_analysis import EnergyShares, Events
from db import typed
from db.queries.analysis_queries import StepRuns
from db.tables.base import MissingPart
from db.tables.documents.analyses import (
    AnalysisResult,
    Confidence,
    Energy,
    EnergyPart,
    Exceedance,
    LoudEvent,
    Minutes,
    Processing,
    Stage,
    TypeEnergy,
    TypeHeard,
)
from db.tables.documents.sessions import Overload
from db.tables.sessions import AudioSession

#: How many of the loudest detections are listed.
LOUDEST = 10
#: End states of sessions without an answer, even if parts of them were analysed.
UNHEARD = ("failed", "cancelled")


@dataclass(frozen=True, eq=False, kw_only=True)
class Given:
    """The input of an analysis."""

    session: AudioSession
    #: The limits by level, in dB re the session's reference.
    limits_db: Mapping[str, Sequence[float]]
    events: Events
    #: None if no levels are stored.
    levels: LevelHistory | None
    #: The runs of each step by result; there may be several entries of the same.
    runs: Sequence[StepRuns]
    spans_failed: int

    @cached_property
    def energy(self) -> EnergyCurve | None:
        """The cumulative energy of the recording; None if no levels are stored."""
        return None if self.levels is None else self.levels.energy_curve()

    @property
    def duration_s(self) -> float:
        """The duration of the recording; 0 if it was never decoded."""
        if self.levels is not None:
            return self.levels.duration_s
        return self.session.duration_s or 0.0

    @property
    def calibration_db(self) -> float:
        """The offset to add to dB re full scale."""
        return self.session.calibration_db or 0.0

    @property
    def missing(self) -> list[MissingPart]:
        """The intervals that are missing from the session's answer."""
        problem = self.session.problem
        return [] if problem is None else problem.get("missing", [])


def document(given: Given) -> AnalysisResult:
    """Return the result of an analysis."""
    heard = session_analysis.heard(given.events, duration_s=given.duration_s)
    every = Intervals.all_of(heard.values(), duration_s=given.duration_s)
    counts = session_analysis.confidence_counts(given.events.confidence)
    return AnalysisResult(
        duration_s=rounding.seconds(given.duration_s),
        level_reference=given.session.level_reference,
        overload=_overload(given.session),
        events=len(given.events),
        heard_s=rounding.seconds(every.total_s),
        heard_share=_share(every.total_s, given.duration_s),
        noise_types=_types(given, heard),
        confidence=Confidence(
            class_width=1 / session_analysis.CONFIDENCE_CLASSES, events=counts.tolist()
        ),
        minutes=_minutes(given, heard),
        loudest=_loudest(given.events, given.levels),
        energy=_energy(given, heard),
        exceedances=_exceedances(given, heard),
        processing=_processing(given),
    )


def _overload(session: AudioSession) -> Overload | None:
    return typed.convert((session.summary or {}).get("overload"), Overload | None)


def _types(given: Given, heard: Mapping[str, Intervals]) -> list[TypeHeard]:
    """Return the noise types, by total duration, the longest first."""
    events = given.events
    found = []
    for name, places in events.by_type().items():
        confidence = events.confidence[places]
        lengths_s = events.end_s[places] - events.start_s[places]
        found.append(
            TypeHeard(
                noise_type=name,
                group=group_of(name),
                events=places.size,
                total_s=rounding.seconds(lengths_s.sum()),
                heard_s=rounding.seconds(heard[name].total_s),
                heard_share=_share(heard[name].total_s, given.duration_s),
                mean_confidence=rounding.share(confidence.mean()),
                min_confidence=rounding.share(confidence.min()),
                max_confidence=rounding.share(confidence.max()),
                confidence_events=session_analysis.confidence_counts(confidence).tolist(),
            )
        )
    return sorted(found, key=lambda each: (-each.heard_s, each.noise_type))


def _minutes(given: Given, heard: Mapping[str, Intervals]) -> Minutes:
    bounds_s = session_analysis.bounds_of(given.duration_s, step_s=session_analysis.MINUTE_S)
    n_minutes = bounds_s.size - 1
    levels_db: list[float | None] = [None] * n_minutes
    if given.energy is not None:
        minute_db = _in_db(given.energy.mean_squares(bounds_s), given.calibration_db)
        levels_db = [rounding.level(level_db) for level_db in minute_db.tolist()]
    overloaded_s = None
    if given.levels is not None:
        overloaded_s = overloaded_steps(given.levels, step_s=session_analysis.MINUTE_S)
    starts = given.events.start_s
    return Minutes(
        step_s=session_analysis.MINUTE_S,
        laeq_db=levels_db,
        overloaded_s=None
        if overloaded_s is None
        else overloaded_s.round(rounding.SECOND_DECIMALS).tolist(),
        events_begun={
            name: session_analysis.begun(starts[places], n_minutes=n_minutes).tolist()
            for name, places in given.events.by_type().items()
        },
        heard_s={
            name: part.between_s(bounds_s).round(rounding.SECOND_DECIMALS).tolist()
            for name, part in heard.items()
        },
    )


def _loudest(events: Events, levels: LevelHistory | None) -> list[LoudEvent]:
    return [
        LoudEvent(
            start_s=rounding.seconds(events.start_s[place]),
            end_s=rounding.seconds(events.end_s[place]),
            noise_type=events.types[events.type_index[place]],
            confidence=rounding.share(events.confidence[place]),
            laeq_db=rounding.level(events.laeq_db[place]),
            lafmax_db=rounding.level(events.lafmax_db[place]),
            overloaded=None
            if levels is None
            else is_overloaded(levels, float(events.start_s[place]), float(events.end_s[place])),
        )
        for place in events.loudest(LOUDEST).tolist()
    ]


def _energy(given: Given, heard: Mapping[str, Intervals]) -> Energy | None:
    """Attribute the sound energy to noise types; None without levels and for digital silence."""
    if given.energy is None:
        return None
    lost = given.missing
    if given.session.state in UNHEARD:
        lost = [MissingPart(start_s=0.0, end_s=given.duration_s, reason=given.session.state)]
    unheard = Intervals.union(
        np.array([part["start_s"] for part in lost]),
        np.array([part["end_s"] for part in lost]),
        duration_s=given.duration_s,
    )
    shares = session_analysis.energy_shares(heard, given.energy, unheard=unheard)
    if shares is None:
        return None
    whole_s = np.array([0.0, given.duration_s])
    [whole_db] = _in_db(given.energy.mean_squares(whole_s), given.calibration_db).tolist()
    return Energy(
        laeq_db=rounding.level(whole_db),
        noise_types=[
            TypeEnergy(
                noise_type=name, share=rounding.share(share), laeq_db=_part_db(share, whole_db)
            )
            for name, share in sorted(shares.by_type.items(), key=lambda each: (-each[1], each[0]))
        ],
        background=_part(shares.background, whole_db),
        unheard=_part(shares.unheard, whole_db),
        main_source=_main_source(shares),
    )


def _part(share: float, whole_db: float) -> EnergyPart:
    return EnergyPart(share=rounding.share(share), laeq_db=_part_db(share, whole_db))


def _part_db(share: float, whole_db: float) -> float | None:
    """Return the level that a share of the energy alone would give the recording."""
    return rounding.level(whole_db + 10 * math.log10(share)) if share > 0 else None


def _main_source(shares: EnergyShares) -> str:
    """Return the noise type with the most energy, or the background."""
    parts = {**shares.by_type, BACKGROUND: shares.background}
    return max(parts, key=lambda name: (parts[name], name))


def _exceedances(given: Given, heard: Mapping[str, Intervals]) -> list[Exceedance] | None:
    """Return the exceedances of the requested limits; None if no levels are stored."""
    if given.levels is None or given.energy is None:
        return None
    seconds_s = session_analysis.bounds_of(given.duration_s, step_s=1.0)
    series = {
        "LAeq": given.energy.mean_squares(seconds_s),
        "LAFmax": given.levels.fast_max_of_seconds(),
    }
    found = []
    for level, limits_db in given.limits_db.items():
        second_db = _in_db(series[level], given.calibration_db)
        for limit_db in limits_db:
            over = session_analysis.exceedances(
                second_db, limit_db, duration_s=given.duration_s, heard=heard
            )
            found.append(
                Exceedance(
                    level=level,
                    limit_db=limit_db,
                    above_s=rounding.seconds(over.above_s),
                    above_share=_share(over.above_s, given.duration_s),
                    exceedances=over.count,
                    longest_s=rounding.seconds(over.longest_s),
                    longest_start_s=None
                    if over.longest_start_s is None
                    else rounding.seconds(over.longest_start_s),
                    heard_s={name: rounding.seconds(each) for name, each in over.heard_s.items()},
                    background_s=rounding.seconds(over.background_s),
                )
            )
    return found


def _processing(given: Given) -> Processing:
    session = given.session
    stages: dict[str, list[StepRuns]] = {}
    for run in given.runs:
        stages.setdefault(run.step, []).append(run)
    took_s = _between_s(session.started_at, session.finished_at)
    return Processing(
        waited_s=_between_s(session.created_at, session.started_at),
        took_s=took_s,
        times_real_time=_times(given.duration_s, took_s),
        stages=[_stage(step, runs, given.duration_s) for step, runs in stages.items()],
        retries=sum(run.runs for run in given.runs if run.result == "retried"),
        spans_total=session.spans_total,
        spans_failed=given.spans_failed,
        missing_s=rounding.seconds(
            covered_s((part["start_s"], part["end_s"]) for part in given.missing)
        ),
    )


def _stage(step: str, runs: Sequence[StepRuns], duration_s: float) -> Stage:
    total_s = sum(run.total_s for run in runs)
    n_runs: Counter[str] = Counter()
    for run in runs:
        n_runs[run.result] += run.runs
    return Stage(
        step=step,
        runs=dict(n_runs),
        total_s=rounding.seconds(total_s),
        longest_s=rounding.seconds(max(run.longest_s for run in runs)),
        times_real_time=_times(duration_s, total_s),
    )


def _between_s(first: datetime | None, last: datetime | None) -> float | None:
    return (
        None if first is None or last is None else rounding.seconds((last - first).total_seconds())
    )


def _times(duration_s: float, took_s: float | None) -> float | None:
    """Return the seconds of audio per second of processing; None if either is zero or unknown."""
    return round(duration_s / took_s, 2) if took_s and duration_s else None


def _share(part_s: float, whole_s: float) -> float:
    return rounding.share(part_s / whole_s) if whole_s else 0.0


def _in_db(mean_squares: NDArray[np.float64], calibration_db: float) -> NDArray[np.float64]:
    """Convert to dB; digital silence becomes -inf, below any limit."""
    level_db: NDArray[np.float64] = 10 * np.log10(np.maximum(mean_squares, SILENCE))
    return np.where(mean_squares > SILENCE, level_db + calibration_db, -np.inf)
