"""How good a model is on labelled recordings that it is given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actors.science import cards, ear, metrics, psds
from actors.science.cards import number
from actors.science.chunks import RATE_HZ
from actors.science.classifier import Model
from actors.science.metrics import LabelledEvent, Score, Scores
from actors.science.types import BACKGROUND, UNCLASSIFIED
from actors.training import crossval

Samples = NDArray[np.float32]

#: Thresholds of the confidence at which the detector is looked at for its PSDS.
THRESHOLDS = np.linspace(0.01, 0.99, 50)


def of_clips(
    model: Model,
    recordings: Mapping[int, Mapping[str, Any]],
    samples: Mapping[int, Samples],
    *,
    on_progress: Callable[[float], None],
) -> dict[str, Any]:
    """Clips with one ``label`` each: accuracy, per class, calibration; false alarms on background.

    As in cross-validation, a clip that is not labelled background is never told to be it.

    Returns
    -------
    dict
        Plain JSON. ``figures`` are those by which models are compared.
    """
    truth = [str(recording["label"]) for recording in recordings.values()]
    scores = np.zeros((len(truth), len(model.classes)), dtype=np.float32)
    background: dict[str, list[LabelledEvent]] = {}
    durations_s: dict[str, float] = {}
    for row, index in enumerate(recordings):
        on_progress(row / len(truth))
        scores[row] = _clip_scores(model, samples[index], label=truth[row])
        if truth[row] == BACKGROUND:
            background[str(index)] = [
                LabelledEvent.of(each) for each in ear.hear(model, samples[index])
            ]
            durations_s[str(index)] = samples[index].size / RATE_HZ
    predicted = [model.classes[column] for column in scores.argmax(axis=1)]
    result = cards.quality(truth, predicted, scores=scores, classes=model.classes)
    figures = {"clip_accuracy": result["clip_accuracy"]}
    if durations_s:
        figures["false_alarms_per_hour"] = number(
            metrics.false_alarms_per_hour(background, durations_s=durations_s)
        )
    return {
        "kind": "clips",
        "figures": figures,
        "unknown_labels": sorted(set(truth) - set(model.classes)),
        "clips": result,
    }


def of_events(
    model: Model,
    recordings: Mapping[int, Mapping[str, Any]],
    samples: Mapping[int, Samples],
    *,
    on_progress: Callable[[float], None],
) -> dict[str, Any]:
    """Recordings with ``events`` each: segment, event and activity F1, PSDS, false alarms.

    Recordings without events are background: what is heard in them is a false alarm. What comes
    out as `UNCLASSIFIED` is an activity, and a false alarm in background, but names no type and
    so is neither right nor wrong where types are compared.

    Returns
    -------
    dict
        Plain JSON. ``figures`` are those by which models are compared.
    """
    reference: dict[str, list[LabelledEvent]] = {}
    estimated: dict[str, list[LabelledEvent]] = {}
    confidences: dict[str, list[float]] = {}
    durations_s: dict[str, float] = {}
    for number_, (index, recording) in enumerate(recordings.items()):
        on_progress(number_ / len(recordings))
        name = str(index)
        heard = ear.hear(model, samples[index])
        reference[name] = [LabelledEvent(*event) for event in recording["events"]]
        estimated[name] = [LabelledEvent.of(each) for each in heard]
        confidences[name] = [event.confidence for event in heard]
        durations_s[name] = samples[index].size / RATE_HZ
    named = {name: _named(events) for name, events in estimated.items()}
    segments = metrics.segment_f1(reference, named, durations_s=durations_s)
    events = metrics.event_f1(reference, named)
    onsets = metrics.event_f1(reference, named, with_offsets=False)
    score = _psds(reference, estimated, confidences, durations_s=durations_s)
    silent = {name: durations_s[name] for name, true in reference.items() if not true}
    figures = {
        "segment_f1": number(segments.micro.f1),
        "event_f1": number(events.micro.f1),
        "psds": score,
    }
    if silent:
        figures["false_alarms_per_hour"] = number(
            metrics.false_alarms_per_hour(
                {name: estimated[name] for name in silent}, durations_s=silent
            )
        )
    labels = {event.label for true in reference.values() for event in true}
    return {
        "kind": "events",
        "figures": {name: figure for name, figure in figures.items() if figure is not None},
        "unknown_labels": sorted(labels - set(model.classes)),
        "segments": _scores(segments) | {"error_rate": number(segments.micro.error_rate)},
        "events": _scores(events),
        "onsets": _scores(onsets),
        "activity": _score(metrics.activity_f1(reference, estimated, durations_s=durations_s)),
    }


def _clip_scores(model: Model, samples: Samples, *, label: str) -> NDArray[np.floating]:
    shares = ear.name_clip(model, samples)
    if label == BACKGROUND:
        return shares
    return crossval.given_sound(shares, classes=model.classes)


def _named(events: list[LabelledEvent]) -> list[LabelledEvent]:
    return [event for event in events if event.label != UNCLASSIFIED]


def _psds(
    reference: metrics.Recordings,
    estimated: metrics.Recordings,
    confidences: Mapping[str, list[float]],
    *,
    durations_s: Mapping[str, float],
) -> float | None:
    """The PSDS over thresholds of the events' confidence; None without true events."""
    if not any(reference.values()):
        return None
    points = (
        {
            name: [
                event
                for event, confidence in zip(events, confidences[name], strict=True)
                if confidence >= threshold
            ]
            for name, events in estimated.items()
        }
        for threshold in THRESHOLDS
    )
    return number(psds.psds(reference, points, durations_s=durations_s).value)


def _scores(scores: Scores[Any]) -> dict[str, Any]:
    per_class = {name: _score(score) for name, score in scores.per_class.items()}
    return {**_score(scores.micro), "per_class": per_class}


def _score(score: Score) -> dict[str, Any]:
    ratios = {name: number(getattr(score, name)) for name in ("precision", "recall", "f1")}
    return {**ratios, **asdict(score)}
