"""Model files: reproducible bytes, and rejection of damaged files."""

from __future__ import annotations

import hashlib
import json
import struct
import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.science import synth
from actors.science.detection.classifier import Classifier, shipped
from actors.science.detection.cnn import Convolutional, Layers
from actors.science.detection.ensemble import Layer, Network
from actors.science.detection.features import FEATURE_VERSION, N_FEATURES
from actors.science.detection.forest import LEAF, Forest
from actors.science.detection.model_file import MAGIC, MOST_MEMBERS
from actors.science.detection.textures import N_TEXTURES
from actors.science.errors import ModelError
from actors.science.types import BACKGROUND, AnyArray

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


def network(seed: int = 0, *, width: int = N_FEATURES) -> Network:
    rng = np.random.default_rng(seed)

    def layer(n_in: int, n_out: int) -> Layer:
        weights = 0.1 * rng.normal(size=(n_in, n_out)).astype(np.float32)
        return weights, rng.normal(size=n_out).astype(np.float32)

    return Network.of(
        [layer(width, 5), layer(5, 3)],
        mean=rng.normal(size=width),
        scale=rng.uniform(0.5, 2.0, width),
    )


def forest() -> Forest:
    """Return two trees: one has two splits, the other is a leaf."""
    arrays: dict[str, AnyArray] = {
        "roots": np.array([0, 5], dtype=np.int32),
        "feature": np.array([0, 1, LEAF, LEAF, LEAF, LEAF], dtype=np.int16),
        "threshold": np.array([0.0, 0.5, 0, 0, 0, 0], dtype=np.float32),
        "right": np.array([4, 3, 0, 1, 2, 3], dtype=np.int32),
        "values": np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0.5, 0.25, 0.25]], dtype=np.float16),
    }
    return Forest(arrays=arrays, n_features=N_FEATURES)


def model() -> Classifier:
    return Classifier.make(header(), members=[network(), replace(forest(), weight=0.5)])


def inputs(n_rows: int) -> Any:
    return (3 * np.random.default_rng(1).normal(size=(n_rows, N_FEATURES))).astype(np.float32)


def sealed(text: bytes, body: bytes = b"") -> bytes:
    """Return a file with any header and a valid checksum."""
    data = MAGIC + struct.pack("<I", len(text)) + text + body
    return data + hashlib.sha256(data).digest()


def test_a_model_survives_its_file() -> None:
    data = model().to_bytes()
    again = Classifier.from_bytes(data)
    assert again.to_bytes() == data
    assert again.sha256 == hashlib.sha256(data).hexdigest()
    assert again.classes == tuple(CLASSES)
    assert dict(again.header) == header()
    np.testing.assert_array_equal(again.scores(inputs(9)), model().scores(inputs(9)))
    for ours, theirs in zip(again.members, model().members, strict=True):
        assert type(ours) is type(theirs)
        for name, values in ours.arrays.items():
            assert values.dtype == theirs.arrays[name].dtype
            np.testing.assert_array_equal(values, theirs.arrays[name])


def test_scores_are_probabilities() -> None:
    scores = model().scores(100 * inputs(50))
    assert scores.shape == (50, 3)
    assert scores.dtype == np.float32
    assert (scores >= 0).all()
    np.testing.assert_allclose(scores.sum(axis=1), 1.0, atol=1e-5)
    assert model().scores(inputs(0)).shape == (0, 3)
    with pytest.raises(ValueError, match="shape"):
        model().scores(inputs(50)[:, 1:])


def test_members_vote_by_their_weights() -> None:
    alone = [
        Classifier.make(header(), members=[each]).scores(inputs(20)) for each in model().members
    ]
    np.testing.assert_allclose(
        model().scores(inputs(20)), (alone[0] + 0.5 * alone[1]) / 1.5, atol=1e-6
    )


def network_that_hears() -> Convolutional:
    layers = Layers(widths=(2, 2, 2), hidden=2, n_classes=3)
    return Convolutional.of(layers, widths=(2, 2, 2), hidden=2)


def test_a_model_says_what_it_needs() -> None:
    hearing = network_that_hears()
    assert model().input_kinds == {"features"}
    assert Classifier.make(header(), members=[hearing, network()]).input_kinds == {
        "features",
        "samples",
    }
    deaf = Classifier.make(header(), members=[hearing])
    assert deaf.input_kinds == {"samples"}
    with pytest.raises(ValueError, match="no estimator"):
        deaf.scores(inputs(3))


def test_a_network_may_look_at_textures() -> None:
    woven = replace(network(width=N_TEXTURES), view="textures")
    both = Classifier.make(header(), members=[network(), woven])
    assert both.input_kinds == {"features", "textures"}
    again = Classifier.from_bytes(both.to_bytes())
    assert again.to_bytes() == both.to_bytes()
    assert [each.input_kind for each in again.members] == ["features", "textures"]
    alone = Classifier.make(header(), members=[network()])
    np.testing.assert_array_equal(both.scores(inputs(9)), alone.scores(inputs(9)))


def test_who_cannot_be_asked_is_refused() -> None:
    woven = replace(network(width=N_TEXTURES), view="textures")
    with pytest.raises(ModelError, match="to locate sounds"):
        Classifier.make(header(), members=[woven])
    with pytest.raises(ModelError, match="number of textures"):
        Classifier.make(header(), members=[network(), replace(network(), view="textures")])
    with pytest.raises(ModelError, match="features or textures"):
        replace(network(), view="samples")


def test_chunks_are_scored_by_the_members_that_look_at_features() -> None:
    both = Classifier.make(header(), members=[network_that_hears(), network()])
    alone = Classifier.make(header(), members=[network()])
    np.testing.assert_array_equal(both.scores(inputs(9)), alone.scores(inputs(9)))


def test_thresholds_and_the_votes_temperature_come_from_the_header() -> None:
    assert model().thresholds == {}
    assert model().vote_temperature == 1.0
    fields = header(thresholds={"bark": 0.5, "background": 0}, vote_temperature=0.4)
    again = Classifier.from_bytes(Classifier.make(fields, members=[network()]).to_bytes())
    assert again.thresholds == {"bark": 0.5, "background": 0.0}
    assert again.vote_temperature == 0.4


@settings(max_examples=60)
@given(data=st.data())
def test_any_changed_byte_is_noticed(data: st.DataObject) -> None:
    raw = bytearray(model().to_bytes())
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(ModelError):
        Classifier.from_bytes(bytes(raw))


@settings(max_examples=30)
@given(cut=st.integers(0, 400))
def test_any_cut_is_noticed(cut: int) -> None:
    raw = model().to_bytes()
    with pytest.raises(ModelError):
        Classifier.from_bytes(raw[:cut])
    with pytest.raises(ModelError):
        Classifier.from_bytes(raw + b"x" * (cut + 1))


@pytest.mark.parametrize(
    "changes",
    [
        {"feature_version": "0"},
        {"feature_version": 7},
        {"classes": []},
        {"classes": ["background"]},
        {"classes": ["background", "a", "a"]},
        {"classes": ["background", "a", 3]},
        {"classes": "abc"},
        {"classes": ["background", "bark"]},
        {"classes": ["a", "b", "c"]},
        {"classes": ["background", "bark", "unclassified"]},
        {"thresholds": []},
        {"thresholds": {"siren": 0.5}},
        {"thresholds": {"bark": 1.1}},
        {"thresholds": {"bark": -0.1}},
        {"thresholds": {"bark": float("nan")}},
        {"thresholds": {"bark": True}},
        {"thresholds": {"bark": "0.5"}},
        {"vote_temperature": 0.0},
        {"vote_temperature": float("inf")},
        {"vote_temperature": "1"},
        {"vote_temperature": True},
    ],
)
def test_headers_that_do_not_fit_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ModelError):
        Classifier.make(header(**changes), members=[network()])


def test_members_that_do_not_fit_the_classes_are_refused() -> None:
    with pytest.raises(ModelError, match="classes"):
        Classifier.make(header(classes=[*CLASSES, "siren"]), members=[network()])
    narrow = replace(forest(), n_features=N_FEATURES - 1)
    with pytest.raises(ModelError, match="features"):
        Classifier.make(header(), members=[narrow])
    with pytest.raises(ModelError, match="estimators"):
        Classifier.make(header(), members=[])


MEMBER = {"kind": "network", "weight": 1.0, "temperature": 1.0}


@pytest.mark.parametrize(
    "members",
    [
        None,
        [],
        {},
        [7],
        [{}],
        [{**MEMBER, "kind": "pickle"}],
        [{**MEMBER, "kind": ["network"]}],
        [{**MEMBER, "weight": 0.0}],
        [{**MEMBER, "weight": 1e300}],
        [{**MEMBER, "weight": float("nan")}],
        [{**MEMBER, "temperature": "1"}],
        [{**MEMBER, "temperature": True}],
        [{**MEMBER, "activation": "eval"}],
        [{**MEMBER, "activation": {}}],
        [{**MEMBER, "arrays": {}}],
        [{**MEMBER, "what": 1}],
        [MEMBER, MEMBER],
    ],
)
def test_crafted_members_are_refused(members: object) -> None:
    data = Classifier.make(header(), members=[network()]).to_bytes()
    (length,) = struct.unpack_from("<I", data, len(MAGIC))
    start = len(MAGIC) + 4
    layout = json.loads(data[start : start + length])
    text = json.dumps({**layout, "members": members}).encode()
    with pytest.raises(ModelError):
        Classifier.from_bytes(sealed(text, data[start + length : -32]))


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"not json",
        b"[]",
        b"\xff\xfe",
        b"[" * 100_000,
        json.dumps(header()).encode(),
        json.dumps(header(arrays=[["0.mean", "f4", [-1]]])).encode(),
        json.dumps(header(arrays=[["0.mean", "f4", [1 << 40]]])).encode(),
        json.dumps(header(arrays=[["0.mean", "f4", [True]]])).encode(),
        json.dumps(header(arrays=[["0.mean", "O8", [1]]])).encode(),
        json.dumps(header(arrays=[["0.mean", ["f4"], [1]]])).encode(),
        json.dumps(header(arrays=[["0.mean", [1]]])).encode(),
        json.dumps(header(arrays=["mean"])).encode(),
        json.dumps(header(arrays={})).encode(),
        json.dumps(header(arrays=[["0.mean", "f4", [1] * 100]])).encode(),
        json.dumps(header(arrays=[["0.mean", "f4", [1]]] * 5_000)).encode(),
    ],
)
def test_crafted_headers_are_refused(text: bytes) -> None:
    with pytest.raises(ModelError):
        Classifier.from_bytes(sealed(text))


@pytest.mark.parametrize(
    "value",
    ['"\\ud800"', '"\\u0000"', "NaN", "1e999", "-Infinity", '{"a": ["\\udfff"]}', '{"\\ud800": 1}'],
)
def test_values_that_no_database_stores_are_refused(value: str) -> None:
    data = model().to_bytes()
    (length,) = struct.unpack_from("<I", data, len(MAGIC))
    start = len(MAGIC) + 4
    text = data[start : start + length].decode()
    crafted = f'{{"note": {value}, {text[1:]}'.encode()
    with pytest.raises(ModelError, match="header of the model file"):
        Classifier.from_bytes(sealed(crafted, data[start + length : -32]))


@pytest.mark.parametrize("field", ["name", "version", "algorithm"])
@pytest.mark.parametrize("value", [None, 7, "", ["a"], "a" * 100_000])
def test_what_is_shown_of_a_model_is_short_text(field: str, value: object) -> None:
    data = model().to_bytes()
    (length,) = struct.unpack_from("<I", data, len(MAGIC))
    start = len(MAGIC) + 4
    layout = json.loads(data[start : start + length])
    text = json.dumps({**layout, field: value}).encode()
    with pytest.raises(ModelError, match="are texts"):
        Classifier.from_bytes(sealed(text, data[start + length : -32]))


@pytest.mark.parametrize("n_forests", [2_000, 20_000])
def test_more_estimators_than_any_model_has_are_refused_at_once(n_forests: int) -> None:
    began = time.process_time()
    text = json.dumps(header(arrays=[], members=[{**MEMBER, "kind": "forest"}] * n_forests))
    with pytest.raises(ModelError, match="at most"):
        Classifier.from_bytes(sealed(text.encode()))
    assert time.process_time() - began < 1.0


def test_reading_takes_time_by_the_size_alone() -> None:
    most = Classifier.make(header(), members=[network()] + [forest()] * (MOST_MEMBERS - 1))
    data = most.to_bytes()
    began = time.process_time()
    assert Classifier.from_bytes(data).sha256 == most.sha256
    assert time.process_time() - began < 1.0


def test_the_shipped_model_fits_this_release() -> None:
    ours = shipped()
    assert ours is shipped()
    assert BACKGROUND in ours.classes
    assert set(synth.SOUNDS) <= set(ours.classes)
    assert len(ours.classes) == 16
    assert len(ours.to_bytes()) < 4_000_000
    assert ours.sha256 == hashlib.sha256(ours.to_bytes()).hexdigest()
    assert {"training", "libraries", "credits"} <= set(ours.header)
    scores = ours.scores(np.zeros((2, N_FEATURES), dtype=np.float32))
    assert np.isfinite(scores).all()
