"""The convolutional network: equal after storage and in any slice; crafted files are rejected."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from actors.science import synth
from actors.science.detection import ensemble
from actors.science.detection.chunks import HOP, RATE_HZ, STEP
from actors.science.detection.classifier import Classifier
from actors.science.detection.cnn import N_MELS, REACH, Convolutional, Layers, log_mel, relative
from actors.science.detection.features import FEATURE_VERSION
from actors.science.errors import ModelError
from actors.science.types import AnyArray
from tests.support.sounds import EXTREMES, extreme

WIDTHS, HIDDEN = (4, 6, 8), 10
CLASSES = ("background", "bark", "rain")
HEADER = {
    "name": "test",
    "version": "1",
    "algorithm": "cnn",
    "feature_version": FEATURE_VERSION,
    "classes": list(CLASSES),
}


@cache
def sound(n_samples: int, *, seed: int = 0) -> NDArray[np.float32]:
    """Return a bed with a varying level, and hammering throughout."""
    rng = np.random.default_rng(seed)
    bed = synth.background_bed(rng, n_samples, RATE_HZ) * 0.02
    bed *= 10 ** np.sin(np.arange(n_samples) / RATE_HZ)
    bed += 0.02 * synth.hammering(rng, n_samples, RATE_HZ)
    return bed.astype(np.float32)


def layers() -> Layers:
    """Return random parameters, with the statistics of their outputs for some sound."""
    torch.manual_seed(0)
    made = Layers(widths=WIDTHS, hidden=HIDDEN, n_classes=len(CLASSES))
    frames = relative(log_mel(sound(10 * RATE_HZ))[None])
    with torch.no_grad():
        made.scores.weight.mul_(5)
        for _ in range(60):
            made(frames)
    return made.eval()


LAYERS = layers()
NETWORK = Convolutional.of(LAYERS, widths=WIDTHS, hidden=HIDDEN)


def crafted(**changes: Any) -> dict[str, AnyArray]:
    return {**NETWORK.arrays, **changes}


def test_a_network_survives_its_file() -> None:
    """Parameters have half precision from the start, so storing them loses nothing."""
    model = Classifier.make(HEADER, members=[replace(NETWORK, weight=0.5)])
    data = model.to_bytes()
    [again] = Classifier.from_bytes(data).members
    assert isinstance(again, Convolutional)
    assert (again.widths, again.hidden, again.weight) == (WIDTHS, HIDDEN, 0.5)
    assert again.n_classes == len(CLASSES)
    assert {values.dtype for values in again.arrays.values()} == {np.dtype("f2"), np.dtype("f4")}
    for name, values in again.arrays.items():
        assert values.dtype == (np.float32 if "running" in name else np.float16)
    samples = sound(5 * RATE_HZ)
    np.testing.assert_array_equal(again.logits(samples), NETWORK.logits(samples))
    assert Classifier.make(HEADER, members=[again]).to_bytes() == data


def test_half_precision_costs_little() -> None:
    samples = sound(5 * RATE_HZ)
    with torch.inference_mode():
        full = LAYERS(relative(log_mel(samples)[None]))[0].numpy()
    np.testing.assert_allclose(NETWORK.logits(samples), full, atol=0.05)
    assert full.std() > 0.5


def test_fused_layers_are_the_same_function() -> None:
    plain = Layers(widths=WIDTHS, hidden=HIDDEN, n_classes=len(CLASSES)).eval()
    state = {name: torch.from_numpy(v.astype(np.float32)) for name, v in NETWORK.arrays.items()}
    plain.load_state_dict(state, strict=False)
    samples = sound(5 * RATE_HZ)
    with torch.inference_mode():
        unfused = plain(relative(log_mel(samples)[None]))[0].numpy()
    np.testing.assert_allclose(NETWORK.logits(samples), unfused, atol=1e-4)


@cache
def logits_of_whole() -> NDArray[np.float64]:
    return NETWORK.logits(sound(15 * RATE_HZ))


@settings(max_examples=20)
@given(first=st.integers(0, 100), n_steps=st.integers(1, 40))
def test_the_context_is_enough(first: int, n_steps: int) -> None:
    samples = sound(15 * RATE_HZ)
    start, stop = first * STEP, (first + n_steps) * STEP
    begin = max(0, start - REACH)
    skipped = (start - begin) // STEP
    of_slice = NETWORK.logits(samples[begin : stop + REACH])[skipped : skipped + n_steps]
    whole = logits_of_whole()[first : first + n_steps]
    np.testing.assert_allclose(of_slice, whole, atol=1e-3)


def test_what_is_beyond_its_reach_changes_nothing() -> None:
    """Changes within its reach have an effect: the reach is not the whole recording."""
    samples = sound(15 * RATE_HZ)
    changed = samples.copy()
    changed[10 * RATE_HZ :] = sound(5 * RATE_HZ, seed=1)
    difference = np.abs(NETWORK.logits(changed) - NETWORK.logits(samples)).max(axis=1)
    n_same = (10 * RATE_HZ - REACH) // STEP
    assert difference[:n_same].max() < 1e-3
    assert difference[n_same:].max() > 0.1


@pytest.mark.parametrize(
    ("n_samples", "n_steps"), [(STEP, 1), (2 * STEP - 1, 1), (2 * STEP, 2), (31 * STEP + 5, 31)]
)
@pytest.mark.parametrize("kind", EXTREMES)
def test_logits_are_finite_whatever_comes(n_samples: int, n_steps: int, kind: str) -> None:
    samples = extreme(kind, n_samples)
    found = NETWORK.logits(samples)
    assert found.shape == (n_steps, len(CLASSES))
    assert found.dtype == np.float64
    assert np.isfinite(found).all()


def test_gain_changes_nothing() -> None:
    samples = sound(5 * RATE_HZ)
    for gain in (0.25, 8.0):
        louder = NETWORK.logits(samples * np.float32(gain))
        np.testing.assert_allclose(louder, NETWORK.logits(samples), atol=0.02)


def test_frames_have_the_level_of_their_samples() -> None:
    """Doubling the amplitude adds 6.02 dB; a click is in its own frame."""
    samples = sound(RATE_HZ)
    plain, doubled = log_mel(samples), log_mel(2 * samples)
    assert plain.shape == (RATE_HZ // HOP, N_MELS)
    np.testing.assert_allclose(doubled - plain, 20 * np.log10(2), atol=0.02)
    click = np.zeros(RATE_HZ, dtype=np.float32)
    click[40 * HOP + HOP // 2] = 1.0
    assert int(log_mel(click).sum(dim=1).argmax()) == 40


def of(shape: tuple[int, ...], dtype: str = "f2") -> AnyArray:
    return np.ones(shape, dtype=dtype)


def unchecked(arrays: dict[str, AnyArray]) -> Convolutional:
    """Return an estimator as from a crafted file, without any checks."""
    member = object.__new__(Convolutional)
    plain = {"weight": 1.0, "temperature": 1.0, "widths": WIDTHS, "hidden": HIDDEN}
    for name, value in {**plain, "arrays": arrays}.items():
        object.__setattr__(member, name, value)
    return member


@pytest.mark.parametrize(
    "changes",
    [
        {"stages.0.weight": of((4, 1, 3, 3))},
        {"stages.0.weight": of((5, 1, 5, 5))},
        {"stages.0.weight": of((100,))},
        {"stages.1.running_mean": of((5,), "f4")},
        {"stages.1.running_var": -of((4,), "f4")},
        {"stages.0.weight": of((4, 1, 5, 5), "i4")},
        {"stages.1.running_var": of((4,), "i2")},
        {"stages.0.weight": np.full((4, 1, 5, 5), np.nan, dtype="f2")},
        {"stages.1.running_var": np.full(4, np.inf, dtype="f4")},
        {"scores.weight": of((2, HIDDEN, 1))},
        {"scores.bias": of((4,))},
        {"scores.bias": of((3, 1))},
        {"scores.bias": of((1, 3))},
        {"what": of((3,))},
        {"stages.1.num_batches_tracked": of((1,), "f4")},
    ],
)
def test_crafted_arrays_are_refused(changes: dict[str, AnyArray]) -> None:
    with pytest.raises(ModelError):
        Convolutional(arrays=crafted(**changes), widths=WIDTHS, hidden=HIDDEN)
    with pytest.raises(ModelError):
        Classifier.make(HEADER, members=[unchecked(crafted(**changes))])


def test_shapes_are_compared_before_memory_is_taken() -> None:
    """Layers for this number of classes would take some 60 GB."""
    with pytest.raises(ModelError):
        Convolutional(arrays=crafted(**{"scores.bias": of((1 << 24,))}), hidden=1_024)


def test_weights_that_overflow_give_probabilities() -> None:
    huge = {
        name: np.full_like(values, np.finfo(values.dtype).max)
        for name, values in NETWORK.arrays.items()
    }
    member = Convolutional(arrays=huge, widths=WIDTHS, hidden=HIDDEN)
    scores = ensemble.vote([member], [member.logits(sound(RATE_HZ))])
    np.testing.assert_allclose(scores.sum(axis=1), 1.0)


@pytest.mark.parametrize("name", sorted(NETWORK.arrays))
def test_a_lacking_array_is_refused(name: str) -> None:
    arrays = crafted()
    del arrays[name]
    with pytest.raises(ModelError):
        Convolutional(arrays=arrays, widths=WIDTHS, hidden=HIDDEN)


@pytest.mark.parametrize(
    "fields",
    [
        {"widths": [4, 6]},
        {"widths": [4, 6, 8, 10]},
        {"widths": [4, 6, 9]},
        {"widths": [4, 6, 0]},
        {"widths": [4, 6, -8]},
        {"widths": [4, 6, 8.0]},
        {"widths": [True, 6, 8]},
        {"widths": [1 << 40, 1 << 40, 1 << 40]},
        {"widths": "468"},
        {"widths": 4},
        {"widths": None},
        {"widths": [[4], 6, 8]},
        {"hidden": 9},
        {"hidden": 0},
        {"hidden": 1 << 40},
        {"hidden": 10.0},
        {"hidden": "10"},
        {"hidden": None},
    ],
)
def test_crafted_sizes_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ModelError):
        Convolutional(arrays=crafted(), **{"widths": WIDTHS, "hidden": HIDDEN, **fields})
