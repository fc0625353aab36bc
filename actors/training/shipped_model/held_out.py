"""Accuracy of the recipe on held-out clips and soundscapes.

Everything is grouped by the data's folds: a clip, or an event of a soundscape, is judged by a model
that was trained without its fold, so never on another take of the same recording.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from actors.science.audio_io import decode
from actors.science.audio_io.prepare import pcm_to_float, prepare
from actors.science.detection import inference, naming, segmentation
from actors.science.detection.chunks import RATE_HZ, STEP_S, Grid
from actors.science.detection.classifier import Classifier
from actors.science.detection.second_opinion import SecondOpinion
from actors.science.detection.segment_views import views_by_frames
from actors.science.evaluation import clip_metrics, metrics
from actors.science.evaluation.labelled_events import LabelledEvent
from actors.science.levels.levels import LevelHistory
from actors.science.types import Event
from actors.training import calibration, mixtures
from actors.training.calibration import ClipScores
from actors.training.dataset import LabelledClip, Samples

#: Signal-to-noise ratio of the noisy clips, in dB.
NOISY_DB = 10.0

_SEED = 77


@dataclass(frozen=True, eq=False)
class Soundscape:
    """An annotated recording; each event has the fold of the clip that it was made from."""

    name: str
    snr_db: int
    samples: Samples
    levels: LevelHistory
    grid: Grid
    reference: tuple[LabelledEvent, ...]
    folds: tuple[str, ...]

    def fold_at(self, time_s: float) -> str:
        """Return the fold of the event nearest to a time."""
        away = [max(e.start_s - time_s, time_s - e.end_s, 0.0) for e in self.reference]
        return self.folds[int(np.argmin(away))]


@dataclass(frozen=True, eq=False)
class SoundscapeEvents:
    """Events detected in soundscapes, and the reference events."""

    reference: Mapping[str, Sequence[LabelledEvent]]
    estimated: Mapping[str, Sequence[LabelledEvent]]
    durations_s: Mapping[str, float]

    def figures(self) -> dict[str, float]:
        """Return F1 by segments of 1 s, by onset, by onset and offset, and of activity alone."""
        given = self.reference, self.estimated
        segments = metrics.segment_f1(*given, durations_s=self.durations_s).micro
        return {
            "segment F1": segments.f1,
            "segment precision": segments.precision,
            "segment recall": segments.recall,
            "onset F1": metrics.event_f1(*given, with_offsets=False).micro.f1,
            "onset+offset F1": metrics.event_f1(*given).micro.f1,
            "activity F1": metrics.activity_f1(*given, durations_s=self.durations_s).f1,
        }

    def where(self, names: set[str]) -> SoundscapeEvents:
        """Select some of the recordings."""
        kept = (
            {name: value for name, value in each.items() if name in names}
            for each in (self.reference, self.estimated, self.durations_s)
        )
        return SoundscapeEvents(*kept)  # type: ignore[arg-type]


def classify_clips(
    models: Mapping[str, Classifier], clips: Sequence[LabelledClip], *, snr_db: float | None
) -> ClipScores:
    """Classify every clip by the model of its fold, with a background bed if ``snr_db`` is set."""
    rng = np.random.default_rng(_SEED)
    classes = next(iter(models.values())).classes
    rows = []
    for clip in clips:
        samples = clip.samples.astype(np.float64)
        if snr_db is not None:
            samples = np.sum(mixtures.mixed(samples, snr_db=snr_db, rng=rng), axis=0)
        rows.append(inference.classify_clip(models[clip.group], samples.astype(np.float32)))
    return ClipScores(
        np.array([clip.label for clip in clips]),
        np.array([clip.group for clip in clips]),
        np.array(rows, dtype=np.float64),
        classes,
    )


def calibration_error(measured: ClipScores, others: Sequence[ClipScores]) -> float:
    """Return the expected calibration error, with each fold's temperature fitted on the others."""
    scores = np.zeros_like(measured.scores)
    for fold in np.unique(measured.folds):
        known = [each.where(each.folds != fold) for each in others]
        own = measured.folds == fold
        scores[own] = measured.at(calibration.fit_temperature(known)).scores[own]
    truth = np.array([measured.classes.index(label) for label in measured.truth.tolist()])
    return clip_metrics.expected_calibration_error(scores, truth)


def read_soundscapes(folder: Path, clips: Sequence[LabelledClip]) -> Iterator[Soundscape]:
    """Read the recordings of a folder with ``annotations.csv``, by name."""
    folds = {clip.name: clip.group for clip in clips}
    with (folder / "annotations.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for name in sorted({row["file"] for row in rows}):
        own = [row for row in rows if row["file"] == name]
        pcm = bytearray()
        with (folder / name).open("rb") as audio, decode.open_recording(audio) as decoder:
            prepared = prepare(decoder, write=pcm.extend)
        yield Soundscape(
            name,
            int(own[0]["snr_db"]),
            pcm_to_float(bytes(pcm)),
            prepared.levels,
            prepared.grid,
            tuple(
                LabelledEvent(float(row["onset_s"]), float(row["offset_s"]), row["label"])
                for row in own
            ),
            tuple(folds[row["source_clip"]] for row in own),
        )


def by_snr(
    heard: SoundscapeEvents, recordings: Sequence[Soundscape]
) -> dict[str, dict[str, float]]:
    """Return the figures of all soundscapes, and by signal-to-noise ratio."""
    found = {"all": heard.figures()}
    for snr_db in sorted({each.snr_db for each in recordings}):
        names = {each.name for each in recordings if each.snr_db == snr_db}
        found[f"{snr_db} dB"] = heard.where(names).figures()
    return found


def hear_soundscapes(
    models: Mapping[str, Classifier],
    recordings: Sequence[Soundscape],
    *,
    opinions: Callable[[Soundscape], Mapping[str, SecondOpinion]] | None = None,
) -> SoundscapeEvents:
    """Detect events in soundscapes, each frame by the model of the nearest event's fold.

    ``opinions`` returns the base types of each fold for a recording.
    """
    found = {
        each.name: _hear(models, each, opinions=None if opinions is None else opinions(each))
        for each in recordings
    }
    return SoundscapeEvents(
        {each.name: each.reference for each in recordings},
        {name: [LabelledEvent.of(each) for each in heard] for name, heard in found.items()},
        {each.name: each.samples.size / RATE_HZ for each in recordings},
    )


def _hear(
    models: Mapping[str, Classifier],
    recording: Soundscape,
    *,
    opinions: Mapping[str, SecondOpinion] | None,
) -> list[Event]:
    grid = recording.grid
    by_fold = {
        fold: inference.score_recording(model, recording.samples, lead=grid.lead)
        for fold, model in models.items()
    }
    classes, n_steps = next(iter(models.values())).classes, len(next(iter(by_fold.values())))
    judges = [recording.fold_at((step + 0.5) * STEP_S - grid.lead_s) for step in range(n_steps)]
    scores = np.stack([by_fold[fold][step] for step, fold in enumerate(judges)])
    views = views_by_frames(inference.in_memory(recording.samples), grid)
    named: dict[str, segmentation.ClassifySegment] = {}
    steady: dict[str, segmentation.ClassifySegment] = {}
    for fold, model in models.items():
        own = inference.segment_classifier(
            model, scores, views, with_base_types=opinions is not None
        )
        least = naming.least_of(model, with_base_types=opinions is not None)
        opinion = None if opinions is None else opinions[fold]
        gate = inference.gate_votes(model, scores, views)
        named[fold], classify_steady = naming.classifiers(own, model, opinion, least, grid, gate)
        if classify_steady is not None:
            steady[fold] = classify_steady

    def by_judge(
        answers: Mapping[str, segmentation.ClassifySegment],
    ) -> segmentation.ClassifySegment:
        return lambda first, stop: answers[judges[(first + stop) // 2]](first, stop)

    return segmentation.merge(
        scores,
        classes=classes,
        classify=by_judge(named),
        levels=recording.levels,
        blur_s=inference.blur_s(next(iter(models.values()))),
        lead_s=grid.lead_s,
        classify_steady=by_judge(steady) if steady else None,
    )
