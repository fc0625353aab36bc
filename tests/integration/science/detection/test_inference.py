"""Inference: equal for any division into spans, any gain and any shift, and for any length."""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from actors.science import synth
from actors.science.detection import inference, segment_views
from actors.science.detection.chunks import (
    CHUNK_STEP,
    MIN_CHUNK,
    RATE_HZ,
    STEP,
    Grid,
    count_steps,
    plan_spans,
)
from actors.science.detection.classifier import Classifier, shipped
from actors.science.detection.cnn import Convolutional, Layers, log_mel, relative
from actors.science.detection.ensemble import Estimator
from actors.science.levels.levels import LevelHistory
from actors.science.levels.meter import LevelMeter
from actors.science.types import Event

Samples = NDArray[np.float32]

#: Two spans, and an incomplete last frame.
N_SAMPLES = 72 * RATE_HZ + 777
SHORT = 14 * RATE_HZ + 777


@lru_cache
def noise(n_samples: int, *, seed: int = 0) -> Samples:
    """Return a bed with a varying level, with a siren in the middle."""
    rng = np.random.default_rng(seed)
    bed = synth.background_bed(rng, n_samples, RATE_HZ) * 0.01
    bed *= 10 ** np.sin(np.arange(n_samples) / RATE_HZ)
    third = n_samples // 3
    bed[third : 2 * third] += 0.05 * synth.siren_sweep(rng, third, RATE_HZ)
    return bed.astype(np.float32)


@lru_cache
def untrained(n_classes: int) -> Convolutional:
    """Return a network of random parameters with batch statistics of noise."""
    torch.manual_seed(0)
    layers = Layers(widths=(4, 6, 8), hidden=8, n_classes=n_classes)
    with torch.no_grad():
        layers.scores.weight.mul_(5)
        spectrum = relative(log_mel(noise(SHORT))[None])
        for _ in range(60):
            layers(spectrum)
    return Convolutional.of(layers, widths=(4, 6, 8), hidden=8)


def voting(*kinds: str) -> Classifier:
    """Return a model of some kinds of the shipped one's estimators; its network is untrained."""
    plain = shipped()
    of_kind: dict[str, list[Estimator]] = {
        "features": [each for each in plain.members if each.input_kind == "features"],
        "textures": [each for each in plain.members if each.input_kind == "textures"],
        "samples": [untrained(len(plain.classes))],
    }
    header = {**plain.header, "vote_temperature": 1.0}
    return Classifier.make(header, members=[each for kind in kinds for each in of_kind[kind]])


MODELS = {"features": voting("features"), "samples": voting("samples")}
BOTH = voting("samples", "features", "textures")


def levels(samples: Samples) -> LevelHistory:
    meter = LevelMeter(rate_hz=RATE_HZ, n_channels=1)
    meter.push(samples[:, None])
    return meter.finish()


def heard(samples: Samples, *, model: Classifier | None = None) -> list[Event]:
    return inference.detect(model or shipped(), samples, levels=levels(samples))


def looked_at(model: Classifier, samples: Samples, start: int, stop: int) -> Samples:
    """Return the framewise scores of a slice with its context, as a worker computes them."""
    first = max(0, start - inference.CONTEXT)
    piece = samples[first : stop + inference.CONTEXT]
    return inference.score_frames(model, piece, before=start - first, n_samples=stop - start)


@pytest.mark.parametrize("kind", sorted(MODELS))
def test_listening_span_by_span_is_as_in_one_go(kind: str) -> None:
    samples = noise(N_SAMPLES)
    spans = plan_spans(samples.size)
    by_span = [looked_at(MODELS[kind], samples, span.start, span.stop) for span in spans]
    whole = inference.score_frames(MODELS[kind], samples, before=0, n_samples=samples.size)
    assert len(spans) == 2
    assert whole.shape == (count_steps(N_SAMPLES), len(MODELS[kind].classes))
    assert whole.std(axis=0).max() > 0.1
    np.testing.assert_allclose(np.concatenate(by_span), whole, atol=1e-4)
    np.testing.assert_allclose(inference.score_recording(MODELS[kind], samples), whole, atol=1e-4)


@lru_cache
def scores_in_one_go(kind: str) -> Samples:
    return inference.score_frames(MODELS[kind], noise(SHORT), before=0, n_samples=SHORT)


@pytest.mark.parametrize("kind", sorted(MODELS))
@settings(max_examples=8)
@given(cuts=st.sets(st.integers(1, SHORT // CHUNK_STEP), max_size=4))
def test_no_cut_changes_a_score(kind: str, cuts: set[int]) -> None:
    samples = noise(SHORT)
    bounds = [0, *(cut * CHUNK_STEP for cut in sorted(cuts)), SHORT]
    by_slice = [looked_at(MODELS[kind], samples, first, last) for first, last in pairwise(bounds)]
    np.testing.assert_allclose(np.concatenate(by_slice), scores_in_one_go(kind), atol=1e-4)


#: Samples of its bed that a scene may begin with.
MOST_LEAD = 5_000


@lru_cache
def scene_with_most_lead(seed: int) -> Samples:
    """Return three sounds over a bed, after `MOST_LEAD` more samples of that bed."""
    n_samples, length = 20 * RATE_HZ, 3 * RATE_HZ
    rng = np.random.default_rng(seed)
    samples = synth.background_bed(rng, n_samples + MOST_LEAD, RATE_HZ) * 10 ** (-58 / 20)
    ramp = np.minimum(np.arange(length) / 320, 1.0)
    for number, name in enumerate(rng.permutation(sorted(synth.SOUNDS))[:3]):
        first = MOST_LEAD + int((2.0 + 6.0 * number + rng.uniform(0, 1)) * RATE_HZ)
        sound = synth.SOUNDS[name](rng, length, RATE_HZ) * ramp * ramp[::-1]
        samples[first : first + length] += sound * 10 ** (-26 / 20)
    return samples.astype(np.float32)


def scene(seed: int, *, lead: int) -> Samples:
    """Return three sounds over a bed, after ``lead`` more samples of that bed."""
    return scene_with_most_lead(seed)[MOST_LEAD - lead :]


@lru_cache
def heard_in_scene(seed: int) -> list[Event]:
    """Return the events of a scene without a lead."""
    return heard(scene(seed, lead=0))


def assert_same(found: list[Event], expected: list[Event], *, lead_s: float = 0.0) -> None:
    """Assert equal types and times within a frame (and the rounding to milliseconds)."""
    assert [event.noise_type for event in found] == [event.noise_type for event in expected]
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.start_s - lead_s == pytest.approx(theirs.start_s, abs=0.102)
        assert ours.end_s - lead_s == pytest.approx(theirs.end_s, abs=0.102)


@pytest.mark.parametrize("seed", [0, 1, 2, 3, 7, 49])
def test_a_shift_moves_every_event_by_the_same(seed: int) -> None:
    """The samples before it are the recording's own bed, without new sounds.

    The last two have a sound that the model assigns to two types in turns. Frames at other
    positions would divide it differently.
    """
    plain = heard_in_scene(seed)
    assert len(plain) >= 3
    for lead in (1, 799, MOST_LEAD):
        assert_same(heard(scene(seed, lead=lead)), plain, lead_s=lead / RATE_HZ)


@pytest.mark.parametrize("gain_db", [-6.0, 12.0])
def test_gain_changes_nothing_but_levels(gain_db: float) -> None:
    gain = np.float32(10 ** (gain_db / 20))
    for seed in (0, 1):
        samples = scene(seed, lead=0)
        plain, scaled = heard_in_scene(seed), heard(samples * gain)
        assert_same(scaled, plain)
        for ours, theirs in zip(scaled, plain, strict=True):
            assert ours.confidence == pytest.approx(theirs.confidence, abs=0.02)
            assert ours.laeq_db is not None
            assert theirs.laeq_db is not None
            assert ours.laeq_db - theirs.laeq_db == pytest.approx(gain_db, abs=0.3)
    samples = noise(SHORT)
    for model in MODELS.values():
        np.testing.assert_allclose(
            inference.score_recording(model, samples * gain),
            inference.score_recording(model, samples),
            atol=0.02,
        )


def second(model: Classifier, samples: Samples, first: int, stop: int, *, seed: int = 0) -> Samples:
    """Return the classification of the frames ``[first, stop)`` of a recording."""
    scores = np.zeros((count_steps(samples.size), len(model.classes)), dtype=np.float32)
    rng = np.random.default_rng(seed)
    scores[first:stop] = rng.dirichlet(np.ones(len(model.classes)), stop - first)
    views = segment_views.views_by_frames(inference.in_memory(samples), Grid(samples.size))
    return inference.segment_classifier(model, scores, views)(first, stop)


@pytest.mark.parametrize("model", [*MODELS.values(), BOTH])
@pytest.mark.parametrize(
    ("first", "stop"),
    [(0, 1), (50, 51), (0, 4), (40, 45), (696, 721), (720, 721), (0, 721), (10, 330), (100, 150)],
)
def test_the_second_look_gives_probabilities_of_any_stretch(
    model: Classifier, first: int, stop: int
) -> None:
    shares = second(model, noise(N_SAMPLES), first, stop)
    assert shares.shape == (len(model.classes),)
    assert shares.dtype == np.float32
    assert (shares > 0).all()
    assert float(shares.sum()) == pytest.approx(1.0, abs=1e-5)


def test_the_second_look_without_features_is_the_mean_of_the_first() -> None:
    """It is the mean of the logarithms; repeating a frame has no effect."""
    model = MODELS["samples"]
    row = np.random.default_rng(1).dirichlet(np.ones(len(model.classes))).astype(np.float32)
    part = np.zeros(MIN_CHUNK + 2 * segment_views.MARGIN, dtype=np.float32)
    found = inference.classify_segment(
        model, segment_views.views_of([part]), first=np.tile(row, (7, 1))
    )
    np.testing.assert_allclose(found, np.maximum(row, 1e-4), rtol=2e-3)


def test_the_second_look_hears_one_long_sound_at_any_length() -> None:
    """Much longer segments are classified in parts that are spread over them."""
    samples = 0.1 * synth.broadband_hiss(np.random.default_rng(3), 45 * RATE_HZ, RATE_HZ)
    model = shipped()
    column = model.classes.index("broadband_hiss")
    for stop in (5, 20, 50, 51, 100, 299, 301, 450):
        assert second(model, samples.astype(np.float32), 0, stop)[column] > 0.5


def test_the_votes_temperature_makes_it_surer_and_keeps_the_order() -> None:
    plain = MODELS["features"]
    sharp = Classifier.make({**plain.header, "vote_temperature": 0.5}, members=plain.members)
    samples = noise(SHORT)
    usual, surer = second(plain, samples, 50, 90), second(sharp, samples, 50, 90)
    np.testing.assert_array_equal(np.argmax(surer), np.argmax(usual))
    assert surer.max() > usual.max()
    np.testing.assert_allclose(surer, usual**2 / (usual**2).sum(), rtol=1e-3)


def test_beside_base_types_textures_are_not_computed() -> None:
    samples = noise(SHORT)
    scores = inference.score_recording(BOTH, samples)
    of_frames = segment_views.views_by_frames(inference.in_memory(samples), Grid(samples.size))
    asked: list[str] = []

    def views(first: int, stop: int) -> segment_views.Views:
        def view(name: str) -> Samples:
            asked.append(name)
            return of_frames(first, stop)(name)

        return view

    def classify(model: Classifier, *, with_base_types: bool) -> Samples:
        asked.clear()
        score = inference.segment_classifier(model, scores, views, with_base_types=with_base_types)
        return score(50, 90)

    alone = classify(BOTH, with_base_types=False)
    assert set(asked) == {"features", "textures"}
    beside = classify(BOTH, with_base_types=True)
    assert set(asked) == {"features"}
    assert not np.allclose(beside, alone, atol=1e-3)
    plain = voting("samples", "features")
    np.testing.assert_array_equal(beside, classify(plain, with_base_types=False))


@given(data=st.data(), n_samples=st.integers(1, 10 * RATE_HZ))
def test_the_second_look_takes_the_stretch_and_enough_around_it(
    data: st.DataObject, n_samples: int
) -> None:
    n_steps = count_steps(n_samples)
    first = data.draw(st.integers(0, n_steps - 1))
    stop = data.draw(st.integers(first + 1, n_steps))
    chunks = segment_views.chunks_of(first * STEP, stop * STEP, n_samples=n_samples)
    assert 0 <= chunks[0][0] <= first * STEP
    # Equal parts lose less than one sample each.
    assert min(stop * STEP, n_samples) - len(chunks) < chunks[-1][1] <= n_samples
    for start, end in chunks:
        assert min(MIN_CHUNK, n_samples) <= end - start <= segment_views.PART + MIN_CHUNK
    assert all(a[1] <= b[0] for a, b in pairwise(chunks))


def test_of_a_sound_of_hours_only_a_few_parts_are_read() -> None:
    chunks = segment_views.chunks_of(0, 10 * 3_600 * RATE_HZ, n_samples=11 * 3_600 * RATE_HZ)
    assert len(chunks) <= 12
    assert sum(end - start for start, end in chunks) <= 30 * RATE_HZ


@pytest.mark.parametrize("n_samples", [1, 799, 1_600, 1_601, 7_999, 8_000, 23_999])
@pytest.mark.parametrize("model", [*MODELS.values(), BOTH])
def test_recordings_of_any_length_are_heard(model: Classifier, n_samples: int) -> None:
    samples = noise(3 * n_samples + 10)[n_samples : 2 * n_samples]
    scores = inference.score_recording(model, samples)
    assert scores.shape == (count_steps(n_samples), len(model.classes))
    np.testing.assert_allclose(scores.sum(axis=1), 1.0, atol=1e-5)
    found = heard(samples, model=model)
    assert all(0 <= each.start_s < each.end_s <= n_samples / RATE_HZ for each in found)
    shares = inference.classify_clip(model, samples)
    assert shares.shape == (len(model.classes),)
    assert float(shares.sum()) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("name", sorted(synth.SOUNDS))
def test_a_clip_is_named_by_the_sound_in_it(name: str) -> None:
    rng = np.random.default_rng(11)
    clip = synth.background_bed(rng, 5 * RATE_HZ, RATE_HZ) * 10 ** (-60 / 20)
    clip[RATE_HZ : 4 * RATE_HZ] += 0.1 * synth.SOUNDS[name](rng, 3 * RATE_HZ, RATE_HZ)
    shares = inference.classify_clip(shipped(), clip.astype(np.float32))
    assert shipped().classes[int(shares.argmax())] == name


def test_a_clip_of_nothing_is_background() -> None:
    for clip in (np.zeros(5 * RATE_HZ, dtype=np.float32), scene(0, lead=0)[: RATE_HZ // 2 * 3]):
        shares = inference.classify_clip(shipped(), clip)
        assert shipped().classes[int(shares.argmax())] == "background"
