"""Model cards: what a model is, its training data, and its quality on held-out data."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from actors.facts import rounding
from actors.science.detection import inference
from actors.science.detection.chunks import RATE_HZ, Grid
from actors.science.detection.classifier import Classifier
from actors.science.detection.segment_views import views_by_frames
from actors.science.evaluation import clip_metrics
from actors.science.types import JsonDict

#: Duration of the probe sound whose scores the card records, so that a later release or another
#: machine can verify that the model gives the same output.
PROBE_S = 4
PROBE_SEED = 16_000


def build(
    model: Classifier,
    *,
    columns: Sequence[str],
    truth: NDArray[np.str_],
    scores: NDArray[np.float32],
    sources: Sequence[str],
    data_sha256: str,
) -> JsonDict:
    """Build a model's card.

    Parameters
    ----------
    model
        Trained on all clips.
    columns
        The classes or types of the columns of ``scores``.
    truth : numpy.ndarray [shape=(n_clips,)]
        Labels of the clips.
    scores : numpy.ndarray [shape=(n_clips, n_columns), dtype=float32]
        Held-out probabilities of the clips (each by a model that was not trained on it).
    sources
        The recording that each clip was cut from.
    data_sha256
        Hash of all training data.

    Returns
    -------
    dict
        Plain JSON; undefined figures are None.
    """
    predicted = [columns[column] for column in scores.argmax(axis=1)]
    labels = truth.tolist()
    return {
        "name": model.header["name"],
        "version": model.header["version"],
        "algorithm": model.header["algorithm"],
        "sha256": model.sha256,
        "n_clips": len(labels),
        "n_sources": len(set(sources)),
        "data_sha256": data_sha256,
        "training": model.header.get("training", {}),
        "trained_types": list(model.trained_types),
        "warnings": list(model.header.get("warnings", [])),
        "libraries": model.header.get("libraries", {}),
        "probe_scores": probe_scores(model).astype(float).round(6).tolist(),
    } | quality(labels, predicted, scores=scores, classes=columns)


def quality(
    truth: Sequence[str],
    predicted: Sequence[str],
    *,
    scores: NDArray[np.float32],
    classes: Sequence[str],
) -> JsonDict:
    """Compute the accuracy of clip labels and the calibration of their probabilities.

    ``truth`` may hold labels that are not classes of the model: those clips count as errors, and
    are excluded from the calibration.
    """
    every = [*classes, *sorted(set(truth) - set(classes))]
    counts = Counter(truth)
    per_class = clip_metrics.per_class(truth, predicted, classes=every)
    return {
        "clip_accuracy": number(clip_metrics.clip_accuracy(truth, predicted)),
        "classes": [
            {
                "name": name,
                "n_clips": counts[name],
                "precision": number(per_class[name].precision),
                "recall": number(per_class[name].recall),
                "f1": number(per_class[name].f1),
            }
            for name in every
        ],
        "confusion": clip_metrics.confusion_matrix(truth, predicted, classes=every).tolist(),
        "calibration": _calibration(truth, scores, classes),
    }


def probe() -> NDArray[np.float32]:
    """Return a sound that is identical everywhere [shape=(PROBE_S * RATE_HZ,)].

    Noise, a rising tone, bursts of noise and a hum, one second each, over faint noise.
    """
    # numpy guarantees the stream of this generator; that of its newer ones may change.
    noise = np.random.RandomState(PROBE_SEED).uniform(-1.0, 1.0, PROBE_S * RATE_HZ)
    time_s = np.arange(RATE_HZ) / RATE_HZ
    hum = sum(np.sin(2 * np.pi * 50 * order * time_s) / order for order in range(1, 9))
    sound = 1e-3 * noise
    first, second, third, fourth = sound.reshape(PROBE_S, RATE_HZ)
    first += 0.1 * noise[:RATE_HZ]
    second += 0.3 * np.sin(2 * np.pi * (300 + 1_000 * time_s) * time_s)
    third += 0.5 * noise[:RATE_HZ] * np.exp(-20 * (time_s % 0.25))
    fourth += 0.2 * hum
    return sound.astype(np.float32)


def probe_scores(model: Classifier) -> NDArray[np.float32]:
    """Return a model's scores of `probe` [shape=(n_steps + 1, n_classes)].

    The framewise scores, then the classification of the whole probe as one segment. The segments of
    the framewise scores are not used: rounding may move them by a frame.
    """
    samples = probe()
    steps = inference.score_recording(model, samples)
    views = views_by_frames(inference.in_memory(samples), Grid(samples.size))
    score = inference.segment_classifier(model, steps, views)
    return np.vstack([steps, score(0, len(steps))])


def number(value: float) -> float | None:
    """Return a figure rounded for JSON, None if it is undefined."""
    return None if math.isnan(value) else rounding.share(value)


def _calibration(
    truth: Sequence[str], scores: NDArray[np.float32], classes: Sequence[str]
) -> JsonDict | None:
    known = [index for index, label in enumerate(truth) if label in classes]
    if not known:
        return None
    columns = np.array([list(classes).index(truth[index]) for index in known])
    rows = np.clip(scores[known], 0.0, 1.0)
    table = clip_metrics.reliability_table(rows, columns)
    return {
        "expected_error": number(clip_metrics.expected_calibration_error(rows, columns)),
        "bins": [
            {
                name: number(value) if isinstance(value, float) else value
                for name, value in dataclasses.asdict(each).items()
            }
            for each in table
            if each.n_clips
        ],
    }
