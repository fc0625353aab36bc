"""Learning from labelled clips: the result, its figures, and refusals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.science import synth
from actors.science.detection import features
from actors.science.detection.chunks import RATE_HZ
from actors.science.detection.classifier import Classifier
from actors.science.types import BACKGROUND
from actors.training import (
    algorithms,
    cross_validation,
    feature_augmentation,
    learn,
    linear_head,
    waveform_trainer,
)
from actors.training.clip_checks import OneClassOnly, TooFewExamples
from actors.training.dataset import LabelledClip
from actors.training.learn import Learnt


def clips_of(label: str, how_many: int, *, seconds: float = 1.0, seed: int = 0) -> list[Any]:
    """Return synthesised clips, two of each group."""
    rng = np.random.default_rng([seed, *label.encode()])
    n_samples = int(seconds * RATE_HZ)
    return [
        LabelledClip(
            name=f"{label}-{number}",
            label=label,
            group=f"{label}-{number // 2}",
            samples=(0.1 * synth.SOUNDS[label](rng, n_samples, RATE_HZ)).astype(np.float32),
        )
        for number in range(how_many)
    ]


CLIPS = [*clips_of("siren_sweep", 6), *clips_of("broadband_hiss", 6), *clips_of("hammering", 6)]


def beds(how_many: int) -> list[LabelledClip]:
    rng = np.random.default_rng(0)
    return [
        LabelledClip(
            f"bed-{number}",
            BACKGROUND,
            f"bed-{number}",
            0.01 * synth.background_bed(rng, 2 * RATE_HZ, RATE_HZ),
        )
        for number in range(how_many)
    ]


def learnt(clips: list[LabelledClip], **options: Any) -> Learnt:
    return learn.learn(clips, **{"algorithm": "lda", "name": "ours", "version": "3", **options})


@pytest.fixture(scope="module", autouse=True)
def _few_copies() -> Iterator[None]:
    """Make only as many copies as these sounds need to be separated; the tests should be fast."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(feature_augmentation, "MOST_COPIES", 3)
        patch.setattr(feature_augmentation, "FEWEST_BEDS", 6)
        yield


@pytest.fixture(scope="module")
def told() -> list[tuple[float, str]]:
    return []


@pytest.fixture(scope="module")
def result(told: list[tuple[float, str]]) -> Learnt:
    return learnt(CLIPS, on_progress=lambda part, stage: told.append((part, stage)))


def test_held_out_clips_are_told_apart(result: Learnt) -> None:
    assert result.names == tuple(clip.name for clip in CLIPS)
    assert result.truth.tolist() == [clip.label for clip in CLIPS]
    assert result.scores.shape == (len(CLIPS), 4)
    assert result.scores.dtype == np.float32
    np.testing.assert_allclose(result.scores.sum(axis=1), 1.0, atol=1e-5)
    classes = result.model.classes
    assert (result.scores[:, classes.index(BACKGROUND)] == 0).all()
    found = np.array(classes)[result.scores.argmax(axis=1)]
    assert (found == result.truth).mean() > 0.85


def test_the_model_hears_what_it_learnt(result: Learnt) -> None:
    model = Classifier.from_bytes(result.model.to_bytes())
    for clip in clips_of("hammering", 3, seed=1) + clips_of("siren_sweep", 3, seed=1):
        windows = cross_validation.windows_of(clip.samples)
        scores = cross_validation.clip_scores(
            model.scores(windows.features),
            windows.is_silent,
            classes=model.classes,
            label=clip.label,
        )
        assert model.classes[scores.argmax()] == clip.label
    for bed in beds(3):
        of_bed = model.scores(cross_validation.windows_of(bed.samples).features)
        assert model.classes[of_bed.mean(axis=0).argmax()] == BACKGROUND


def test_the_header_says_how_it_was_made(result: Learnt) -> None:
    header = result.model.header
    assert (header["name"], header["version"], header["algorithm"]) == ("ours", "3", "lda")
    assert header["feature_version"] == features.FEATURE_VERSION
    assert header["classes"] == ["background", "broadband_hiss", "hammering", "siren_sweep"]
    training = header["training"]
    assert training["n_clips"] == len(CLIPS)
    assert training["clips_by_class"] == Counter(clip.label for clip in CLIPS)
    assert len(training["data_sha256"]) == 64
    found = np.array(result.model.classes)[result.scores.argmax(axis=1)]
    assert training["clip_accuracy"] == pytest.approx((found == result.truth).mean(), abs=1e-4)
    assert {"numpy", "scikit-learn", "torch"} <= set(header["libraries"])


def test_progress_is_told_often_and_goes_forward(
    result: Learnt, told: list[tuple[float, str]]
) -> None:
    assert result.model
    parts = [part for part, _ in told]
    assert parts == sorted(parts)
    assert (parts[0], told[-1]) == (0.0, (1.0, "done"))
    assert len(told) > len(CLIPS)
    assert list(dict.fromkeys(stage for _, stage in told)) == [
        "listening",
        "validating",
        "training",
        "done",
    ]


@pytest.mark.parametrize("at", ["listening", "training"])
def test_progress_may_stop_the_work(at: str) -> None:
    class Stopped(Exception):
        pass

    def stop(_part: float, stage: str) -> None:
        if stage == at:
            raise Stopped

    with pytest.raises(Stopped):
        learnt(CLIPS, on_progress=stop)


def test_the_same_seed_gives_the_same_model(result: Learnt) -> None:
    again = learnt(CLIPS)
    assert again.model.to_bytes() == result.model.to_bytes()
    np.testing.assert_array_equal(again.scores, result.scores)


def test_clips_of_background_are_learnt_and_scored_as_such() -> None:
    found = learnt([*CLIPS[:12], *beds(3)])
    column = found.model.classes.index(BACKGROUND)
    assert (found.scores[12:, column] > 0.5).all()
    assert (found.scores[:12, column] == 0).all()


def test_clips_that_hardly_fit_are_taken() -> None:
    """Very short, silent and empty clips, and one longer than a piece."""
    odd = [
        replace(CLIPS[0], name="click", samples=CLIPS[0].samples[:200]),
        replace(CLIPS[0], name="silent", samples=np.zeros(RATE_HZ, np.float32)),
        replace(CLIPS[0], name="empty", samples=np.zeros(0, np.float32)),
        *clips_of("hammering", 1, seconds=11.0, seed=2),
    ]
    found = learnt([*CLIPS, *odd])
    assert np.isfinite(found.scores).all()
    np.testing.assert_allclose(found.scores.sum(axis=1), 1.0, atol=1e-5)
    assert found.model.classes[found.scores[-1].argmax()] == "hammering"


def test_clips_of_one_class_are_refused() -> None:
    with pytest.raises(OneClassOnly):
        learnt(CLIPS[:6])
    with pytest.raises(OneClassOnly):
        learnt([])


def test_classes_with_too_few_clips_or_groups_are_named() -> None:
    with pytest.raises(TooFewExamples, match=r"hammering \(3 clips of 2 groups\)"):
        learnt(CLIPS[:15])
    one_group = [replace(clip, group="all") for clip in CLIPS[:6]]
    with pytest.raises(TooFewExamples, match=r"siren_sweep \(6 clips of 1 groups\)"):
        learnt([*one_group, *CLIPS[6:]])
    silent = [replace(clip, samples=np.zeros_like(clip.samples)) for clip in CLIPS[:6]]
    with pytest.raises(TooFewExamples, match=r"siren_sweep \(0 clips of 0 groups\)"):
        learnt([*silent, *CLIPS[6:]])


def test_an_unknown_algorithm_is_refused() -> None:
    with pytest.raises(ValueError, match="algorithm"):
        learnt(CLIPS, algorithm="magic")
    assert learn.DEFAULT_ALGORITHM in learn.ALGORITHMS
    every = {*algorithms.ALGORITHMS, *waveform_trainer.ALGORITHMS, linear_head.ALGORITHM}
    assert set(learn.ALGORITHMS) == every
    assert all(learn.ALGORITHMS.values())


@settings(max_examples=20)
@given(
    sizes=st.lists(st.lists(st.integers(2, 6), min_size=2, max_size=6), min_size=2, max_size=4),
    seed=st.integers(0, 99),
)
def test_folds_keep_groups_whole_and_classes_in_training(sizes: list[Any], seed: int) -> None:
    samples = np.ones(1, dtype=np.float32)
    clips = [
        LabelledClip(f"{label}-{group}-{number}", f"c{label}", f"{label}-{group}", samples)
        for label, groups in enumerate(sizes)
        for group, n_clips in enumerate(groups)
        for number in range(n_clips)
    ]
    folds = cross_validation.deal(clips, seed=seed)
    assert set(folds) == {clip.group for clip in clips}
    assert len(set(folds.values())) == min(
        cross_validation.MOST_FOLDS, *(len(each) for each in sizes)
    )
    for fold in set(folds.values()):
        left = {clip.label for clip in clips if folds[clip.group] != fold}
        assert len(left) == len(sizes)


def test_classes_are_learnt_from_about_as_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """A class with few clips is repeated more often, one with many is cut down."""
    monkeypatch.setattr(feature_augmentation, "LEARNT_S", 60.0)
    monkeypatch.setattr(feature_augmentation, "MOST_COPIES", 8)
    clips = [*clips_of("siren_sweep", 4), *clips_of("hammering", 40), *clips_of("mains_hum", 10)]
    taken = Counter(
        clip.label for clip in feature_augmentation.balanced(clips, np.random.default_rng(0))
    )
    assert taken["hammering"] == pytest.approx(20, abs=1)
    assert taken["mains_hum"] == pytest.approx(20, abs=1)
    assert taken["siren_sweep"] == pytest.approx(20, abs=1)
    monkeypatch.setattr(feature_augmentation, "LEARNT_S", 6_000.0)
    taken = Counter(
        clip.label for clip in feature_augmentation.balanced(clips, np.random.default_rng(0))
    )
    assert taken["siren_sweep"] == 4 * 8


def test_a_long_clip_is_learnt_where_its_sound_is() -> None:
    quiet = 1e-4 * np.random.default_rng(0).normal(size=30 * RATE_HZ).astype(np.float32)
    quiet[15 * RATE_HZ : 16 * RATE_HZ] += CLIPS[0].samples[:RATE_HZ]
    pieces = list(feature_augmentation.split(replace(CLIPS[0], samples=quiet)))
    assert len(pieces) == 1
    np.testing.assert_array_equal(pieces[0].samples, quiet[10 * RATE_HZ : 20 * RATE_HZ])


def test_windows_of_a_long_clip_are_as_of_its_parts() -> None:
    rng = np.random.default_rng(0)
    samples = 0.1 * synth.siren_sweep(rng, 65 * RATE_HZ, RATE_HZ)
    windows = cross_validation.windows_of(samples)
    assert len(windows.features) == len(windows.is_silent) == 129
    at = 117 * cross_validation.WINDOW_HOP  # Its window crosses the edge of a block.
    around = samples[at - features.MARGIN : at + RATE_HZ + features.MARGIN]
    alone = features.extract(around, [(0, RATE_HZ)])
    np.testing.assert_allclose(windows.features[117], alone[0], atol=2e-3)


@pytest.mark.parametrize(
    ("rows", "label", "expected"),
    [
        # Only the window with the event counts, without background.
        ([[0.9, 0.1, 0.0], [0.2, 0.6, 0.2]], "a", [0.0, 0.75, 0.25]),
        # Only background: all windows count, still without the background class.
        ([[0.8, 0.2, 0.0], [0.8, 0.0, 0.2]], "a", [0.0, 0.5, 0.5]),
        ([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]], "a", [0.0, 0.5, 0.5]),
        # A background clip keeps its scores.
        ([[0.9, 0.1, 0.0], [0.2, 0.6, 0.2]], BACKGROUND, [0.55, 0.35, 0.1]),
    ],
)
def test_a_clip_is_the_mean_of_its_events(rows: Any, label: str, expected: Any) -> None:
    scores = np.array(rows, dtype=np.float32)
    found = cross_validation.clip_scores(
        scores, np.zeros(2, bool), classes=[BACKGROUND, "a", "b"], label=label
    )
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_silent_windows_have_no_say() -> None:
    scores = np.array([[0.1, 0.9, 0.0], [0.1, 0.0, 0.9]], dtype=np.float32)
    is_silent = np.array([False, True])
    found = cross_validation.clip_scores(
        scores, is_silent, classes=[BACKGROUND, "a", "b"], label="b"
    )
    np.testing.assert_allclose(found, [0, 1, 0], atol=1e-6)
