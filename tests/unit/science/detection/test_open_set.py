"""Rejection of sounds that are of no class of a model."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.science.detection import naming, open_set
from actors.science.detection.chunks import Grid
from actors.science.detection.classifier import shipped
from actors.science.detection.open_set import KNOWN, is_known
from actors.science.types import BACKGROUND

LEAST = {"rain": 0.35}
probabilities = st.floats(0.0, 1.0)


@given(confidence=probabilities, known=probabilities, more=probabilities)
def test_more_of_either_never_rejects(confidence: float, known: float, more: float) -> None:
    if is_known(confidence, known):
        assert is_known(max(confidence, more), known)
        assert is_known(confidence, max(known, more))


@given(confidence=st.floats(0.35, 0.999))
def test_a_sound_of_which_the_gate_says_nothing_is_judged_by_its_confidence(
    confidence: float,
) -> None:
    assert is_known(confidence, 0.5) is (confidence >= open_set.LEAST)
    assert not is_known(confidence, 0.0)


def test_the_shipped_gate_has_two_classes_and_uses_features_alone() -> None:
    gate = shipped().gate
    assert gate is not None
    assert gate.classes == (BACKGROUND, KNOWN)
    assert gate.input_kinds == {"features"}
    assert gate.gate is None


@pytest.mark.parametrize(("known", "expected"), [(0.99, ["rain"]), (0.01, [])])
def test_a_rejected_segment_keeps_its_candidates(known: float, expected: list[str]) -> None:
    model = shipped()
    shares = np.array([0.9 if name == "rain" else 0.1 / 15 for name in model.classes])
    classify, _ = naming.classifiers(
        lambda first, stop: shares,
        model,
        None,
        LEAST,
        Grid(16_000),
        lambda first, stop: np.array([1.0 - known, known]),
    )
    found = classify(0, 10)
    assert [each.noise_type for each in found.answers] == expected
    assert found.candidates[0].noise_type == "rain"
