"""Rejection of sounds that are of no class of a model."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.science.detection import naming, open_set
from actors.science.detection.chunks import Grid
from actors.science.detection.classifier import shipped
from actors.science.types import BACKGROUND

LEAST = {"rain": 0.35}
probabilities = st.floats(0.0, 1.0)


def is_known(confidence: float, *by_gate: float) -> bool:
    return open_set.is_known(confidence, np.array(by_gate), weights=[1.0] * len(by_gate))


@given(confidence=probabilities, one=probabilities, other=probabilities, more=probabilities)
def test_more_of_either_never_rejects(
    confidence: float, one: float, other: float, more: float
) -> None:
    if is_known(confidence, one, other):
        assert is_known(max(confidence, more), one, other)
        assert is_known(confidence, max(one, more), other)
        assert is_known(confidence, one, max(other, more))


@given(confidence=st.floats(0.35, 0.999))
def test_a_sound_of_which_the_gate_says_nothing_is_judged_by_its_confidence(
    confidence: float,
) -> None:
    assert is_known(confidence, 0.5, 0.5) is (confidence >= open_set.LEAST)
    assert not is_known(confidence, 0.0, 0.0)


def test_one_estimator_outvotes_another_only_if_it_is_surer() -> None:
    assert is_known(0.95, 0.9, 0.2)
    assert not is_known(0.95, 0.2, 0.5)


def test_the_weight_of_an_estimator_counts() -> None:
    votes = np.array([0.9, 0.0])
    assert open_set.is_known(0.95, votes, weights=[1.0, 0.0])
    assert not open_set.is_known(0.95, votes, weights=[1.0, 1.0])


def test_the_shipped_gate_has_the_classes_of_its_model_and_further_types() -> None:
    model = shipped()
    gate = model.gate
    assert gate is not None
    assert {*model.classes} < {*gate.classes}
    assert gate.input_kinds == {"features", "textures"}
    assert gate.gate is None


@pytest.mark.parametrize(("known", "expected"), [(0.99, ["rain"]), (0.01, [])])
def test_a_rejected_segment_keeps_its_candidates(known: float, expected: list[str]) -> None:
    model = shipped()
    assert model.gate is not None
    others = len(model.classes) - 1
    shares = np.array([0.9 if name == "rain" else 0.1 / others for name in model.classes])
    foreign = len(model.gate.classes) - 1
    votes = np.array(
        [known if name == "rain" else (1.0 - known) / foreign for name in model.gate.classes]
    )
    classify, _ = naming.classifiers(
        lambda first, stop: shares,
        model,
        None,
        LEAST,
        Grid(16_000),
        lambda first, stop: np.tile(votes, (len(model.gate.members), 1)),  # type: ignore[union-attr]
    )
    found = classify(0, 10)
    assert [each.noise_type for each in found.answers] == expected
    assert found.candidates[0].noise_type == "rain"
    assert BACKGROUND not in {each.noise_type for each in found.candidates}
