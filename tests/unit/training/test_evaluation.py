"""Evaluation of a model on given data: how clips, detections and activity are counted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from actors.science.detection import classifier, inference
from actors.science.detection.chunks import RATE_HZ
from actors.science.types import BACKGROUND
from actors.training import evaluation
from db.tables.training import LabelledRecording
from tests.support import labelled, networks


def of_clips(
    model: classifier.Classifier, *clips: tuple[str, NDArray[np.float32]]
) -> dict[str, Any]:
    recordings = {index: LabelledRecording(label=label) for index, (label, _) in enumerate(clips)}
    samples = {index: samples for index, (_, samples) in enumerate(clips)}
    return evaluation.of_clips(
        evaluation.EvaluatedModel(model), recordings, samples, on_progress=lambda _: None
    )


def of_events(model: classifier.Classifier, samples: NDArray[np.float32], *events: Any) -> Any:
    recordings = {0: LabelledRecording(events=events)}
    return evaluation.of_events(
        evaluation.EvaluatedModel(model), recordings, {0: samples}, on_progress=lambda _: None
    )


def mixed(*, burst: NDArray[np.float32], at_s: int, seconds: int = 12) -> NDArray[np.float32]:
    """Return a sound over a quiet background."""
    samples = 0.01 * labelled.sound(BACKGROUND, seconds=seconds)
    samples[at_s * RATE_HZ : at_s * RATE_HZ + burst.size] += burst
    return samples


def test_clips_are_told_and_counted() -> None:
    clips = [(label, labelled.sound(label, seconds=3)) for label in labelled.LABELS]
    told = of_clips(classifier.shipped(), *clips, ("never heard of", clips[0][1]))
    assert told["figures"] == {"clip_accuracy": 0.6667}
    assert told["unknown_labels"] == ["never heard of"]


def test_only_a_clip_that_is_labelled_background_is_told_to_be_it() -> None:
    model = networks.background_only()
    noise = labelled.sound(BACKGROUND, seconds=2)
    assert model.classes[inference.classify_clip(model, noise).argmax()] == BACKGROUND
    told = of_clips(model, ("rain", noise), (BACKGROUND, noise))
    assert told["figures"]["clip_accuracy"] == 1.0
    assert told["clips"]["confusion"] == [[1, 0], [0, 1]]


def test_events_are_heard_as_the_pipeline_hears_them() -> None:
    siren = labelled.sound("siren_sweep", seconds=5)
    samples = mixed(burst=siren, at_s=4)
    report = of_events(classifier.shipped(), samples, (4.0, 9.0, "siren_sweep"))
    assert report["figures"]["segment_f1"] > 0.8
    assert report["events"]["recall"] == 1.0
    assert report["figures"]["psds"] > 0.8
    assert "false_alarms_per_hour" not in report["figures"]


def test_what_is_loud_and_nothing_known_is_an_activity_without_a_type() -> None:
    burst = 0.3 * np.random.default_rng(0).standard_normal(2 * RATE_HZ).astype(np.float32)
    samples = mixed(burst=burst, at_s=5)
    report = of_events(networks.background_only(), samples, (5.0, 7.0, "rain"))
    assert report["activity"]["recall"] == 1.0
    assert report["events"]["per_class"].keys() == {"rain"}
    assert (report["events"]["n_estimated"], report["figures"]["segment_f1"]) == (0, 0.0)
    alone = of_events(networks.background_only(), samples)
    assert alone["figures"]["false_alarms_per_hour"] == pytest.approx(3600 / 12)
