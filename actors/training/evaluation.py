"""Evaluation of a model on labelled recordings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import soxr
from numpy.typing import NDArray

from actors.science.detection import cards, inference, second_opinion
from actors.science.detection.cards import number
from actors.science.detection.chunks import RATE_HZ
from actors.science.detection.classifier import Classifier
from actors.science.detection.second_opinion import SecondOpinion
from actors.science.detection.tagging import backbone
from actors.science.detection.tagging.tagger import Tagger
from actors.science.evaluation import metrics, psds
from actors.science.evaluation.labelled_events import LabelledEvent, Recordings
from actors.science.evaluation.metrics import AnyScore, Score, Scores
from actors.science.types import BACKGROUND, UNCLASSIFIED, Event, JsonDict
from actors.training import cross_validation
from db.tables.training import LabelledRecording

Samples = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class EvaluatedModel:
    """A model, with the base types if it has a head.

    Attributes
    ----------
    model
    tagger
        The model's head over its backbone; None for a model trained on classes alone.
    """

    model: Classifier
    tagger: Tagger | None = None

    @property
    def rate_hz(self) -> int:
        """The sample rate of its input."""
        return RATE_HZ if self.tagger is None else backbone.RATE_HZ

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns of `classify_clip`."""
        if self.tagger is None:
            return self.model.classes
        return tuple(dict.fromkeys((*self.model.classes, *self.tagger.types)))

    def detect(self, samples: Samples) -> list[Event]:
        """Find the events of a recording [shape=(n,)], as the pipeline does."""
        return inference.detect(self.model, self._narrow(samples), opinion=self._opinion(samples))

    def classify_clip(self, samples: Samples) -> NDArray[np.floating]:
        """Compute probabilities [shape=(n_columns,)] of a clip with at most one sound."""
        own = inference.classify_clip(self.model, self._narrow(samples))
        opinion = self._opinion(samples)
        if opinion is None:
            return own
        base = opinion.of(0, samples.size).likely
        likely = second_opinion.combined(
            own, base, classes=self.model.classes, trained=self.model.trained_types
        )
        shares = second_opinion.exclusive(likely)
        return np.array([shares[name] for name in self.columns])

    def _narrow(self, samples: Samples) -> Samples:
        if self.tagger is None:
            return samples
        found: Samples = soxr.resample(samples, self.rate_hz, RATE_HZ)
        return found

    def _opinion(self, samples: Samples) -> SecondOpinion | None:
        if self.tagger is None:
            return None
        return SecondOpinion(self.tagger, inference.in_memory(samples), samples.size)


#: Confidence thresholds of the PSDS.
THRESHOLDS = np.linspace(0.01, 0.99, 50)


def of_clips(
    evaluated: EvaluatedModel,
    recordings: Mapping[int, LabelledRecording],
    samples: Mapping[int, Samples],
    *,
    on_progress: Callable[[float], None],
) -> JsonDict:
    """Measure accuracy and calibration on clips with one ``label`` each, and false alarms.

    As in cross-validation, a clip with another label than background is never classified as
    background.

    Returns
    -------
    dict
        Plain JSON. Models are compared by its ``figures``.
    """
    truth = [str(recording["label"]) for recording in recordings.values()]
    scores = np.zeros((len(truth), len(evaluated.columns)), dtype=np.float32)
    background: dict[str, list[LabelledEvent]] = {}
    durations_s: dict[str, float] = {}
    for row, index in enumerate(recordings):
        on_progress(row / len(truth))
        scores[row] = _clip_scores(evaluated, samples[index], label=truth[row])
        if truth[row] == BACKGROUND:
            background[str(index)] = [
                LabelledEvent.of(each) for each in evaluated.detect(samples[index])
            ]
            durations_s[str(index)] = samples[index].size / evaluated.rate_hz
    predicted = [evaluated.columns[column] for column in scores.argmax(axis=1)]
    columns = [name for name in evaluated.columns if name in _shown(evaluated, truth, predicted)]
    kept = scores[:, [evaluated.columns.index(name) for name in columns]]
    result = cards.quality(truth, predicted, scores=kept, classes=columns)
    figures = {"clip_accuracy": result["clip_accuracy"]}
    if durations_s:
        figures["false_alarms_per_hour"] = number(
            metrics.false_alarms_per_hour(background, durations_s=durations_s)
        )
    return {
        "kind": "clips",
        "figures": figures,
        "unknown_labels": sorted(set(truth) - set(evaluated.columns)),
        "clips": result,
    }


def of_events(
    evaluated: EvaluatedModel,
    recordings: Mapping[int, LabelledRecording],
    samples: Mapping[int, Samples],
    *,
    on_progress: Callable[[float], None],
) -> JsonDict:
    """Measure segment, event and activity F1, PSDS and false alarms on recordings with ``events``.

    Recordings without events are background: any detection in them is a false alarm. `UNCLASSIFIED`
    detections count as activity and as false alarms in background, but are left out where types are
    compared, since they name no type.

    Returns
    -------
    dict
        Plain JSON. Models are compared by its ``figures``.
    """
    reference: dict[str, list[LabelledEvent]] = {}
    estimated: dict[str, list[LabelledEvent]] = {}
    confidences: dict[str, list[float]] = {}
    durations_s: dict[str, float] = {}
    for number_, (index, recording) in enumerate(recordings.items()):
        on_progress(number_ / len(recordings))
        name = str(index)
        heard = evaluated.detect(samples[index])
        reference[name] = [LabelledEvent(*event) for event in recording["events"]]
        estimated[name] = [LabelledEvent.of(each) for each in heard]
        confidences[name] = [event.confidence for event in heard]
        durations_s[name] = samples[index].size / evaluated.rate_hz
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
        "unknown_labels": sorted(labels - set(evaluated.columns)),
        "segments": _scores(segments) | {"error_rate": number(segments.micro.error_rate)},
        "events": _scores(events),
        "onsets": _scores(onsets),
        "activity": _score(metrics.activity_f1(reference, estimated, durations_s=durations_s)),
    }


def _shown(evaluated: EvaluatedModel, truth: Sequence[str], predicted: Sequence[str]) -> set[str]:
    """Return the columns of the tables: the model's own, and base types that occur."""
    return {*evaluated.model.classes, *evaluated.model.trained_types, *truth, *predicted}


def _clip_scores(
    evaluated: EvaluatedModel, samples: Samples, *, label: str
) -> NDArray[np.floating]:
    shares = evaluated.classify_clip(samples)
    if label == BACKGROUND:
        return shares
    return cross_validation.given_sound(shares, classes=evaluated.columns)


def _named(events: list[LabelledEvent]) -> list[LabelledEvent]:
    return [event for event in events if event.label != UNCLASSIFIED]


def _psds(
    reference: Recordings,
    estimated: Recordings,
    confidences: Mapping[str, list[float]],
    *,
    durations_s: Mapping[str, float],
) -> float | None:
    """Compute the PSDS over confidence thresholds; None without true events."""
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


def _scores(scores: Scores[AnyScore]) -> JsonDict:
    per_class = {name: _score(score) for name, score in scores.per_class.items()}
    return {**_score(scores.micro), "per_class": per_class}


def _score(score: Score) -> JsonDict:
    ratios = {name: number(getattr(score, name)) for name in ("precision", "recall", "f1")}
    return {**ratios, **asdict(score)}
