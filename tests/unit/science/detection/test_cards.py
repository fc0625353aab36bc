"""Model cards, the plot of the confusion matrix, and the integrity of a file."""

from __future__ import annotations

import hashlib
import json
import struct

import numpy as np
import pytest

from actors.science.detection import cards, classifier, integrity, model_file
from actors.science.plotting import confusion
from tests.support import networks

TRUTH = np.array(["rain", "rain", "rooster", "sneeze"])


def card() -> dict[str, object]:
    """Return a card of the shipped model, as if one of four held-out clips was misclassified."""
    model = classifier.shipped()
    scores = np.full((4, len(model.classes)), 0.01, dtype=np.float32)
    for row, name in enumerate(("rain", "rooster", "rooster", "sneeze")):
        scores[row, model.classes.index(name)] = 0.85
    return cards.build(
        model,
        columns=model.classes,
        truth=TRUTH,
        scores=scores,
        sources=["a", "a", "b", "c"],
        data_sha256="0" * 64,
    )


def test_a_card_counts_and_is_plain_json() -> None:
    built = card()
    assert json.loads(json.dumps(built, allow_nan=False)) == built
    assert (built["n_clips"], built["n_sources"], built["clip_accuracy"]) == (4, 3, 0.75)
    classes = built["classes"]
    assert isinstance(classes, list)
    by_name = {each["name"]: each for each in classes}
    assert by_name["rain"] == {
        "name": "rain",
        "n_clips": 2,
        "precision": 1.0,
        "recall": 0.5,
        "f1": 0.6667,
    }
    assert by_name["rooster"]["precision"] == 0.5
    assert by_name["helicopter"]["recall"] is None
    matrix = np.array(built["confusion"])
    names = list(by_name)
    assert matrix[names.index("rain"), names.index("rooster")] == 1
    assert matrix.trace() == 3


def test_labels_that_are_no_class_are_wrong_and_named() -> None:
    scores = np.array([[0.9, 0.1], [0.2, 0.8]], dtype=np.float32)
    told = cards.quality(["a", "z"], ["a", "b"], scores=scores, classes=["a", "b"])
    assert told["clip_accuracy"] == 0.5
    assert [each["name"] for each in told["classes"]] == ["a", "b", "z"]
    assert sum(each["n_clips"] for each in told["calibration"]["bins"]) == 1


@pytest.mark.parametrize("n_classes", [2, 20])
def test_a_confusion_matrix_is_drawn(n_classes: int) -> None:
    matrix = np.arange(n_classes**2).reshape(n_classes, n_classes)
    matrix[0] = 0
    # As in life, most pairs of types are never confused.
    matrix = np.triu(np.tril(matrix, 2), -2)
    names = [f"$class_{index}^{{" + "x" * index for index in range(n_classes)]
    picture = confusion.draw(matrix, names, title="50 % of $x")
    assert picture.startswith(b"\x89PNG")


def outcomes(checks: list[integrity.Check]) -> dict[str, bool | None]:
    return {check.name: check.passed for check in checks}


def test_a_whole_file_passes() -> None:
    model = classifier.shipped()
    checks, read = integrity.check(
        model.to_bytes(), sha256=model.sha256, classes=model.classes, card=card()
    )
    assert read is not None
    assert set(outcomes(checks).values()) == {True}


@pytest.mark.parametrize("position", [0, 20, 5_000, -1])
def test_a_flipped_byte_is_found_with_and_without_the_hash(position: int) -> None:
    model = classifier.shipped()
    data = bytearray(model.to_bytes())
    data[position] ^= 1
    checks, read = integrity.check(bytes(data), sha256=model.sha256)
    assert (outcomes(checks), read) == ({"hash": False}, None)
    checks, read = integrity.check(bytes(data))
    assert (outcomes(checks), read) == ({"hash": None, "schema": False}, None)


def test_a_pickle_is_no_model() -> None:
    checks, read = integrity.check(b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix.")
    assert read is None
    assert outcomes(checks)["schema"] is False
    assert "model file" in checks[-1].detail


@pytest.mark.parametrize(
    "change",
    [{"name": ""}, {"name": 7}, {"version": "1\n2"}, {"note": "a\x00b"}, {"note": float("nan")}],
)
def test_a_header_that_cannot_be_kept_is_refused(change: dict[str, object]) -> None:
    checks, read = integrity.check(changed(**change))
    assert (outcomes(checks)["schema"], read) == (False, None)


def test_a_model_that_answers_otherwise_than_where_it_was_made_is_found() -> None:
    recorded = card() | {
        "probe_scores": np.zeros_like(cards.probe_scores(classifier.shipped())).tolist()
    }
    checks, _ = integrity.check(classifier.shipped().to_bytes(), card=recorded)
    assert [name for name, passed in outcomes(checks).items() if passed is False] == [
        "known_vectors"
    ]


@pytest.mark.parametrize("model", [classifier.shipped(), networks.untrained()])
def test_every_kind_of_model_answers_the_probe(model: classifier.Classifier) -> None:
    scores = cards.probe_scores(model)
    # Forty frames, and the whole.
    assert scores.shape == (41, len(model.classes))
    assert scores.std(axis=0).max() > 0.01
    recorded = {"probe_scores": scores.astype(float).round(6).tolist()}
    checks, _ = integrity.check(model.to_bytes(), card=recorded)
    assert set(outcomes(checks).values()) == {True, None}


def test_a_probe_is_the_same_everywhere() -> None:
    """Except for the rounding of sines, it is the same with any version of numpy."""
    probe = cards.probe()
    assert probe.shape == (4 * 16_000,)
    assert np.abs(probe).max() < 1.0
    known = {0: -0.06374303, 1: -0.09659075, 16_002: 0.07048574, 63_999: -0.0307679}
    np.testing.assert_allclose(probe[list(known)], list(known.values()), atol=1e-6)


def test_classes_must_be_those_registered() -> None:
    model = classifier.shipped()
    checks, _ = integrity.check(model.to_bytes(), classes=model.classes[::-1])
    assert outcomes(checks)["classes"] is False


def changed(**header: object) -> bytes:
    """Return the file of the shipped model with another header and a valid checksum."""
    data = classifier.shipped().to_bytes()
    start = len(model_file.MAGIC) + 4
    (length,) = struct.unpack_from("<I", data, len(model_file.MAGIC))
    raw = json.dumps({**json.loads(data[start : start + length]), **header}).encode()
    body = model_file.MAGIC + struct.pack("<I", len(raw)) + raw + data[start + length : -32]
    return body + hashlib.sha256(body).digest()
