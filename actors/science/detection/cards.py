"""Model cards: what a model is, what it learnt from, and how good it is on what it had not seen."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actors.facts import rounding
from actors.science.detection import inference
from actors.science.detection.chunks import RATE_HZ, Grid
from actors.science.detection.classifier import Model
from actors.science.evaluation import clip_metrics

#: Length of the sound whose scores stand in the card, so that a later release, or another
#: machine, can prove that it hears with the model as the one that made it.
PROBE_S = 4
PROBE_SEED = 16_000


def build(
    model: Model,
    *,
    columns: Sequence[str],
    truth: NDArray[np.str_],
    scores: NDArray[np.float32],
    sources: Sequence[str],
    data_sha256: str,
) -> dict[str, Any]:
    """A model's card.

    Parameters
    ----------
    model
        As trained on all clips.
    columns
        The classes or types of the columns of ``scores``.
    truth : numpy.ndarray [shape=(n_clips,)]
        Labels of the clips.
    scores : numpy.ndarray [shape=(n_clips, n_columns), dtype=float32]
        Held-out probabilities of the clips.
    sources
        What each clip was cut from.
    data_sha256
        Over all that it was trained on.

    Returns
    -------
    dict
        Plain JSON; a figure that is undefined is None.
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
) -> dict[str, Any]:
    """How good the labels of clips are, and whether their probabilities can be believed.

    ``truth`` may hold labels that are no class of the model: those clips are wrong whatever it
    says, and do not count for its calibration.
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
    """A sound that is the same everywhere [shape=(PROBE_S * RATE_HZ,)].

    Noise, a rising tone, noise in bursts and a hum, a second each, over faint noise.
    """
    # The stream of this generator is frozen; that of numpy's newer ones may change.
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


def probe_scores(model: Model) -> NDArray[np.float32]:
    """What a model makes of `probe` [shape=(n_steps + 1, n_classes)].

    The first look at every step, and a second look at the whole. The second look does not go by
    the stretches that the first one finds: those may begin a step earlier or later by a hair.
    """
    samples = probe()
    steps = inference.listen(model, samples)
    look = inference.looker(
        model, steps, read=inference.in_memory(samples), grid=Grid(samples.size)
    )
    return np.vstack([steps, look(0, len(steps))])


def number(value: float) -> float | None:
    """A figure as JSON knows it: None where it is undefined."""
    return None if math.isnan(value) else rounding.share(value)


def _calibration(
    truth: Sequence[str], scores: NDArray[np.float32], classes: Sequence[str]
) -> dict[str, Any] | None:
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
