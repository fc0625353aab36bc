"""Model files: the same bytes again, and nothing damaged is taken."""

from __future__ import annotations

import hashlib
import json
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.science import synth
from actors.science.classifier import MAGIC, Array, Model, network_arrays, shipped
from actors.science.errors import ModelError
from actors.science.events import BACKGROUND
from actors.science.features import FEATURE_VERSION, N_FEATURES

N_IN = 7
CLASSES = ["background", "bark", "rain"]


def header(**changes: Any) -> dict[str, Any]:
    plain = {
        "name": "test",
        "version": "1",
        "algorithm": "mlp",
        "feature_version": FEATURE_VERSION,
        "classes": CLASSES,
    }
    return {**plain, **changes}


def arrays(**changes: Array) -> dict[str, Array]:
    rng = np.random.default_rng(0)

    def layer(n_in: int, n_out: int) -> tuple[Array, Array]:
        weights = rng.normal(size=(n_in, n_out)).astype(np.float32)
        return weights, rng.normal(size=n_out).astype(np.float32)

    deep = [layer(N_IN, 5), layer(5, 3)]
    scaling = {
        "mean": rng.normal(size=N_IN).astype(np.float32),
        "scale": np.ones(N_IN, dtype=np.float32),
        "temperature": np.ones(1, dtype=np.float32),
    }
    return {**scaling, **network_arrays([deep, [layer(N_IN, 3)]]), **changes}


def model() -> Model:
    return Model.make(header(), arrays=arrays())


def sealed(text: bytes, body: bytes = b"") -> bytes:
    """A file with any header and a checksum that fits."""
    data = MAGIC + struct.pack("<I", len(text)) + text + body
    return data + hashlib.sha256(data).digest()


def test_a_model_survives_its_file() -> None:
    data = model().to_bytes()
    again = Model.from_bytes(data)
    assert again.to_bytes() == data
    assert again.sha256 == hashlib.sha256(data).hexdigest()
    assert again.classes == tuple(CLASSES)
    assert dict(again.header) == header()
    inputs = np.random.default_rng(1).normal(size=(9, N_IN)).astype(np.float32)
    np.testing.assert_array_equal(again.scores(inputs), model().scores(inputs))


def test_scores_are_probabilities() -> None:
    inputs = (100 * np.random.default_rng(1).normal(size=(50, N_IN))).astype(np.float32)
    scores = model().scores(inputs)
    assert scores.shape == (50, 3)
    assert scores.dtype == np.float32
    assert (scores >= 0).all()
    np.testing.assert_allclose(scores.sum(axis=1), 1.0, atol=1e-5)
    assert model().scores(inputs[:0]).shape == (0, 3)
    with pytest.raises(ValueError, match="shape"):
        model().scores(inputs[:, 1:])


@settings(max_examples=60)
@given(data=st.data())
def test_any_changed_byte_is_noticed(data: st.DataObject) -> None:
    raw = bytearray(model().to_bytes())
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(ModelError):
        Model.from_bytes(bytes(raw))


@settings(max_examples=30)
@given(cut=st.integers(0, 400))
def test_any_cut_is_noticed(cut: int) -> None:
    raw = model().to_bytes()
    with pytest.raises(ModelError):
        Model.from_bytes(raw[:cut])
    with pytest.raises(ModelError):
        Model.from_bytes(raw + b"x" * (cut + 1))


@pytest.mark.parametrize(
    "changes",
    [
        {"feature_version": "0"},
        {"feature_version": 7},
        {"classes": []},
        {"classes": ["a"]},
        {"classes": ["a", "a", "b"]},
        {"classes": ["a", "b", 3]},
        {"classes": "abc"},
        {"classes": ["a", "b"]},
    ],
)
def test_headers_that_do_not_fit_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ModelError):
        Model.make(header(**changes), arrays=arrays())


@pytest.mark.parametrize(
    "changes",
    [
        {"scale": np.zeros(N_IN, dtype=np.float32)},
        {"scale": np.ones(N_IN + 1, dtype=np.float32)},
        {"mean": np.full(N_IN, np.nan, dtype=np.float32)},
        {"temperature": np.zeros(1, dtype=np.float32)},
        {"0.0.weights": np.ones((N_IN, 4), dtype=np.float32)},
        {"0.1.biases": np.full(3, np.inf, dtype=np.float32)},
        {"0.0.weights": np.ones((N_IN + 1, 5), dtype=np.float32)},
    ],
)
def test_arrays_that_do_not_fit_are_refused(changes: dict[str, Array]) -> None:
    with pytest.raises(ModelError):
        Model.make(header(), arrays=arrays(**changes))


@pytest.mark.parametrize("lacking", ["mean", "temperature", "0.0.weights", "0.1.biases"])
def test_lacking_arrays_are_refused(lacking: str) -> None:
    kept = {name: value for name, value in arrays().items() if name != lacking}
    with pytest.raises(ModelError):
        Model.make(header(), arrays=kept)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"not json",
        b"[]",
        b"\xff\xfe",
        b"[" * 100_000,
        json.dumps(header()).encode(),
        json.dumps(header(arrays=[["mean", [-1]]])).encode(),
        json.dumps(header(arrays=[["mean", [1 << 40]]])).encode(),
        json.dumps(header(arrays=[["mean", [True]]])).encode(),
        json.dumps(header(arrays=["mean"])).encode(),
        json.dumps(header(arrays={})).encode(),
    ],
)
def test_crafted_headers_are_refused(text: bytes) -> None:
    with pytest.raises(ModelError):
        Model.from_bytes(sealed(text))


def test_the_shipped_model_fits_this_release() -> None:
    ours = shipped()
    assert ours is shipped()
    assert BACKGROUND in ours.classes
    assert set(synth.SOUNDS) <= set(ours.classes)
    assert len(ours.classes) == 16
    assert len(ours.to_bytes()) < 2_000_000
    assert ours.sha256 == hashlib.sha256(ours.to_bytes()).hexdigest()
    assert {"training", "libraries", "credits"} <= set(ours.header)
    scores = ours.scores(np.zeros((2, N_FEATURES), dtype=np.float32))
    assert np.isfinite(scores).all()
