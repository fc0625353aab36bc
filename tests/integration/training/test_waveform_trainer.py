"""Models of raw samples: training data, evaluation, and results."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from actors.science import synth
from actors.science.detection import cards, cnn, inference, integrity
from actors.science.detection.chunks import RATE_HZ, STEP
from actors.science.detection.classifier import Classifier
from actors.science.detection.cnn import Convolutional
from actors.science.detection.ensemble import Estimator
from actors.science.detection.features import N_FEATURES
from actors.science.detection.textures import N_TEXTURES
from actors.science.types import BACKGROUND
from actors.training import cross_validation, learn, mixtures, partners, waveform_trainer
from actors.training.clip_checks import OneClassOnly, TooFewExamples
from actors.training.dataset import LabelledClip
from actors.training.learn import Learnt
from actors.training.mixtures import N_SAMPLES, SOUND
from actors.training.network import Course
from actors.training.waveform_trainer import Effort, TrainingMixtures

#: Small enough for a test: it suffices to separate a hum from a hiss.
EFFORT = Effort(
    course=Course(n_real=24, epochs=5, batch=8, widths=(4, 6, 8), hidden=8, dropout=0.1),
    n_scenes=30,
    most_copies=4,
    n_beds=6,
    n_folds=2,
)
LABELS = ("broadband_hiss", "mains_hum")


def clip_of(
    label: str, number: int, *, group: str | None = None, seconds: float = 1.0
) -> LabelledClip:
    rng = np.random.default_rng([number, *label.encode()])
    make = synth.SOUNDS.get(label, synth.background_bed)
    samples = (0.1 * make(rng, int(seconds * RATE_HZ), RATE_HZ)).astype(np.float32)
    name = f"{label}-{number}"
    return LabelledClip(name, label, group or f"{label}-{number // 2}", samples)


#: Two types and background, and edge cases: the shortest accepted clip, silence, an empty clip.
CLIPS = [
    *(clip_of(label, number) for label in LABELS for number in range(4)),
    clip_of("mains_hum", 4, seconds=0.1),
    replace(clip_of("mains_hum", 5), samples=np.zeros(RATE_HZ, np.float32)),
    replace(clip_of("mains_hum", 6), samples=np.zeros(0, np.float32)),
    clip_of("mains_hum", 7, seconds=7.0),
    clip_of(BACKGROUND, 0),
]
N_CLASSES = len(LABELS) + 1


def made(
    clips: Sequence[LabelledClip] = CLIPS, *, algorithm: str = "cnn", effort: Effort = EFFORT
) -> TrainingMixtures:
    return waveform_trainer.make(
        clips, algorithm=algorithm, seed=0, effort=effort, tell=lambda _part: None
    )


@pytest.fixture(scope="module")
def material() -> TrainingMixtures:
    return made(algorithm="cnn_vote")


# --- training data -----------------------------------------------------------------------------


def test_each_class_has_its_share_of_the_scenes(material: TrainingMixtures) -> None:
    counts = Counter(material.labels[material.clips >= 0].tolist())
    # There is only one background clip.
    share = EFFORT.n_scenes // N_CLASSES
    assert counts == {"broadband_hiss": share, "mains_hum": share, BACKGROUND: EFFORT.most_copies}
    assert (material.labels[material.clips < 0] == BACKGROUND).all()
    assert (material.clips < 0).sum() == EFFORT.n_beds
    for label, row in zip(material.labels.tolist(), material.clips.tolist(), strict=True):
        assert row < 0 or (CLIPS[row].label == label and CLIPS[row].samples.any())
    assert len(material.log_mel) == len(material.steps) == sum(counts.values()) + EFFORT.n_beds
    assert material.classes == sorted([BACKGROUND, *LABELS])


def test_no_number_of_clips_makes_more_scenes() -> None:
    clips = [clip_of("mains_hum", number, seconds=0.1) for number in range(60)]
    few = made(clips, effort=replace(EFFORT, n_scenes=10, n_beds=1))
    assert len(few.labels) == 11
    assert len(set(few.clips.tolist())) == 11


def test_background_counts_as_background_wherever_it_comes_from(material: TrainingMixtures) -> None:
    targets = material.spectra.targets.numpy()
    background = material.classes.index(BACKGROUND)
    is_background = material.labels == BACKGROUND
    assert set(np.unique(targets[is_background])) <= {-1, background}
    sounds = targets[~is_background][material.steps[~is_background] == SOUND]
    assert background not in sounds
    assert material.spectra.is_real.numpy().tolist() == (material.clips >= 0).tolist()


@pytest.mark.parametrize(("seconds", "n_pieces"), [(0.1, 1), (5.0, 1), (5.05, 1), (31.0, 7)])
def test_a_long_clip_is_learnt_from_all_over(seconds: float, n_pieces: int) -> None:
    samples = np.linspace(0.1, 0.2, int(seconds * RATE_HZ), dtype=np.float32)
    pieces = list(waveform_trainer.split(LabelledClip("long", "mains_hum", "a", samples)))
    assert len(pieces) == n_pieces
    assert all(piece.samples.size == min(samples.size, N_SAMPLES) for piece in pieces)
    heard = np.unique(np.concatenate([piece.samples for piece in pieces]))
    assert heard.size >= np.unique(samples).size - STEP


def test_a_long_clip_is_learnt_where_its_sound_is() -> None:
    samples = 1e-4 * np.random.default_rng(0).normal(size=60 * RATE_HZ).astype(np.float32)
    samples[33 * RATE_HZ : 34 * RATE_HZ] += clip_of("mains_hum", 0).samples
    sound = LabelledClip("rare", "mains_hum", "a", samples)
    [piece] = waveform_trainer.split(sound)
    np.testing.assert_array_equal(piece.samples, samples[30 * RATE_HZ : 35 * RATE_HZ])
    assert len(list(waveform_trainer.split(replace(sound, label=BACKGROUND)))) == 12


def test_only_a_vote_takes_looks_at_the_sounds(material: TrainingMixtures) -> None:
    assert all(len(rows) == 0 for rows in made().views.values())
    assert {view: rows.shape[1] for view, rows in material.views.items()} == {
        "features": N_FEATURES,
        "textures": N_TEXTURES,
    }
    assert all(np.isfinite(rows).all() for rows in material.views.values())
    labels = material.labels[material.scenes]
    assert set(labels.tolist()) == set(material.classes)
    # Both use the same mixtures: computing the views does not draw from the mixtures' generator.
    assert bool((made().log_mel == material.log_mel).all())


def test_what_is_held_out_is_gone_and_the_rest_is_as_it_was(material: TrainingMixtures) -> None:
    held_out = np.array([clip.label == "mains_hum" for clip in CLIPS])
    held_out[0] = True
    left = material.without(held_out)
    assert set(left.clips.tolist()) == {-1, *np.flatnonzero(~held_out).tolist()} & set(
        material.clips.tolist()
    )
    assert left.classes == [BACKGROUND, "broadband_hiss"]
    assert int(left.spectra.targets.max()) == 1
    kept = (material.clips < 0) | ~held_out[material.clips]
    np.testing.assert_array_equal(left.log_mel.numpy(), material.log_mel.numpy()[kept])
    seen = kept[material.scenes]
    for view, rows in left.views.items():
        np.testing.assert_array_equal(rows, material.views[view][seen])
    np.testing.assert_array_equal(left.labels[left.scenes], material.labels[material.scenes][seen])


# --- evaluation --------------------------------------------------------------------------------


def test_clips_are_named_by_what_never_heard_their_group(
    material: TrainingMixtures, monkeypatch: pytest.MonkeyPatch
) -> None:
    learnt_from: list[set[int]] = []
    named: list[tuple[int, int]] = []
    best: dict[int, str] = {}
    fit, classify_clip = waveform_trainer.fit, inference.classify_clip

    def noted_fit(given: TrainingMixtures, **options: Any) -> list[Estimator]:
        learnt_from.append(set(given.clips.tolist()))
        return fit(given, **options)

    def noted_name(model: Classifier, samples: Any) -> Any:
        shares = classify_clip(model, samples)
        for row, clip in enumerate(CLIPS):
            if np.array_equal(clip.samples, samples):
                named.append((row, len(learnt_from) - 1))
                first = clip.label != BACKGROUND
                best[row] = model.classes[first + int(shares[first:].argmax())]
        return shares

    monkeypatch.setattr(waveform_trainer, "fit", noted_fit)
    monkeypatch.setattr(inference, "classify_clip", noted_name)
    effort = replace(EFFORT, course=replace(EFFORT.course, epochs=1))
    scores, _ = waveform_trainer.validate(
        CLIPS, material, algorithm="cnn", seed=0, effort=effort, tell=lambda _part: None
    )
    assert len(learnt_from) == 2
    # The empty clip is classified as one silent sample.
    assert sorted(row for row, _ in named) == [
        row for row, clip in enumerate(CLIPS) if clip.samples.size
    ]
    for row, at in named:
        group = {other for other, clip in enumerate(CLIPS) if clip.group == CLIPS[row].group}
        assert not group & learnt_from[at]
        assert -1 in learnt_from[at]
        assert material.classes[scores[row].argmax()] == best[row]


@pytest.mark.parametrize("algorithm", waveform_trainer.ALGORITHMS)
def test_a_class_that_a_fold_never_heard_is_told_wrongly(
    material: TrainingMixtures, algorithm: str
) -> None:
    """One fold has all training data of the class, so its clips get a model that lacks it."""
    folds = cross_validation.deal(CLIPS, seed=0, most=2)
    lost = np.array([clip.label == "mains_hum" and folds[clip.group] == 0 for clip in CLIPS])
    effort = replace(EFFORT, course=replace(EFFORT.course, epochs=1))
    scores, temperature = waveform_trainer.validate(
        CLIPS,
        material.without(lost),
        algorithm=algorithm,
        seed=0,
        effort=effort,
        tell=lambda _part: None,
    )
    assert np.isfinite(temperature)
    np.testing.assert_allclose(scores.sum(axis=1), 1.0, atol=1e-5)
    unknown = np.array([folds[clip.group] == 1 for clip in CLIPS])
    column = material.classes.index("mains_hum")
    assert (scores[unknown, column] == 0).all()
    assert (scores[~unknown & (np.array([c.label for c in CLIPS]) == "mains_hum"), column]).any()


# --- results -----------------------------------------------------------------------------------


@pytest.fixture(scope="module", autouse=True)
def _small() -> Iterator[None]:
    """Reduce the amount of training; a job has no option for it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(waveform_trainer, "EFFORT", EFFORT)
        yield


def learnt(algorithm: str, clips: Sequence[LabelledClip] = CLIPS, **options: Any) -> Learnt:
    return learn.learn(clips, algorithm=algorithm, name="ours", version="3", **options)


@pytest.fixture(scope="module")
def told() -> list[tuple[float, str]]:
    return []


@pytest.fixture(scope="module")
def results(told: list[tuple[float, str]]) -> dict[str, Learnt]:
    return {
        "cnn": learnt("cnn", on_progress=lambda part, stage: told.append((part, stage))),
        "cnn_vote": learnt("cnn_vote"),
    }


@pytest.mark.parametrize("algorithm", waveform_trainer.ALGORITHMS)
def test_a_model_comes_with_the_scores_of_held_out_clips(
    results: dict[str, Learnt], algorithm: str
) -> None:
    result = results[algorithm]
    classes = list(result.model.classes)
    assert classes == [BACKGROUND, *LABELS]
    assert result.names == tuple(clip.name for clip in CLIPS)
    assert result.truth.tolist() == [clip.label for clip in CLIPS]
    assert result.scores.shape == (len(CLIPS), N_CLASSES)
    assert result.scores.dtype == np.float32
    np.testing.assert_allclose(result.scores.sum(axis=1), 1.0, atol=1e-5)
    is_sound = result.truth != BACKGROUND
    assert (result.scores[is_sound, 0] == 0).all()
    assert (result.scores[~is_sound, 0] > 0).all()
    found = np.array(classes)[result.scores.argmax(axis=1)]
    if algorithm == "cnn_vote":
        # So few batches are not enough for the network alone.
        assert (found[:8] == result.truth[:8]).mean() > 0.8
    header = result.model.header
    assert (header["name"], header["version"], header["algorithm"]) == ("ours", "3", algorithm)
    assert header["training"]["clip_accuracy"] == pytest.approx(
        (found == result.truth).mean(), abs=1e-4
    )
    assert header["vote_temperature"] == result.model.vote_temperature != 1.0


def test_the_vote_is_that_of_the_shipped_model(results: dict[str, Learnt]) -> None:
    [network] = results["cnn"].model.members
    first, *others = results["cnn_vote"].model.members
    assert isinstance(network, Convolutional)
    assert isinstance(first, Convolutional)
    assert [each.input_kind for each in others] == [
        each.view for each in partners.PARTNERS.values()
    ]
    assert {each.weight for each in (first, *others)} == {1.0}
    for name, values in network.arrays.items():
        np.testing.assert_array_equal(values, first.arrays[name])


@pytest.mark.parametrize("algorithm", waveform_trainer.ALGORITHMS)
def test_the_model_is_whole_and_hears(results: dict[str, Learnt], algorithm: str) -> None:
    result = results[algorithm]
    card = cards.build(
        result.model,
        columns=result.columns,
        truth=result.truth,
        scores=result.scores,
        sources=[clip.group for clip in CLIPS],
        data_sha256="0" * 64,
    )
    checks, model = integrity.check(
        result.model.to_bytes(),
        sha256=result.model.sha256,
        classes=result.model.classes,
        card=card,
    )
    assert model is not None
    assert {check.name: check.passed for check in checks} == dict.fromkeys(
        ("hash", "schema", "classes", "outputs", "round_trip", "known_vectors"), True
    )
    samples = clip_of("broadband_hiss", 9, seconds=3.0).samples
    steps = inference.score_frames(model, samples, before=0, n_samples=samples.size)
    assert steps.shape == (30, N_CLASSES)
    # The network decides, at every frame.
    assert len(np.unique(steps.round(6), axis=0)) > 20
    for event in inference.detect(model, samples):
        assert event.noise_type in {*LABELS, "unclassified"}
    assert isinstance(model.members[0], cnn.Convolutional)


def test_progress_is_told_with_every_epoch_and_goes_forward(
    results: dict[str, Learnt], told: list[tuple[float, str]]
) -> None:
    assert results
    parts = [part for part, _ in told]
    assert parts == sorted(parts)
    assert (parts[0], told[-1]) == (0.0, (1.0, "done"))
    counts = Counter(stage for _, stage in told)
    assert list(counts) == ["listening", "validating", "training", "done"]
    assert counts["training"] == EFFORT.course.epochs
    assert counts["validating"] == EFFORT.n_folds * EFFORT.course.epochs + len(CLIPS)
    assert counts["listening"] > EFFORT.n_beds


@pytest.mark.parametrize(("at", "number"), [("listening", 3), ("validating", 2)])
def test_progress_may_stop_the_work(at: str, number: int) -> None:
    class Stopped(Exception):
        pass

    told: list[str] = []

    def stop(_part: float, stage: str) -> None:
        told.append(stage)
        if told.count(at) == number:
            raise Stopped

    with pytest.raises(Stopped):
        learnt("cnn", CLIPS[:8], on_progress=stop)
    assert told[-1] == at


def test_the_same_seed_gives_the_same_model(results: dict[str, Learnt]) -> None:
    again = learnt("cnn_vote")
    assert again.model.to_bytes() == results["cnn_vote"].model.to_bytes()
    np.testing.assert_array_equal(again.scores, results["cnn_vote"].scores)
    assert again.model.header["training"]["seed"] == 0


def test_classes_that_drown_in_every_scene_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mixtures, "SNR_DB", (-120.0, -110.0))
    monkeypatch.setattr(mixtures, "CLEAN_DB", (-120.0, -110.0))
    with pytest.raises(TooFewExamples, match="found in the clips of broadband_hiss, mains_hum"):
        learnt("cnn")


def test_too_little_is_refused_before_any_scene_is_made() -> None:
    told: list[float] = []
    for clips, error in ((CLIPS[:4], OneClassOnly), (CLIPS[:6], TooFewExamples)):
        with pytest.raises(error):
            learnt("cnn", clips, on_progress=lambda part, _stage: told.append(part))
    assert not told
