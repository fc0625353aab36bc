"""What a sound is, by a model and by the base types beside it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from actors.science import second_opinion
from actors.science.second_opinion import answer, combined, names
from actors.science.types import BACKGROUND

CLASSES = ("background", "rain", "sea_waves", "my_machine")
TYPES = ("rain", "sea_waves", "train", "aircraft", "background")
COLUMNS = names(CLASSES, TYPES)
LEAST = second_opinion.thresholds() | {"my_machine": 0.35}

shares = st.floats(0.001, 1.0)


def normalised(values: dict[str, float], columns: tuple[str, ...]) -> np.ndarray:
    found = np.array([values.get(name, 1e-6) for name in columns])
    return np.asarray(found / found.sum())


def both(own: dict[str, float], base: dict[str, float]) -> dict[str, float]:
    found = combined(
        normalised(own, CLASSES), normalised(base, TYPES), classes=CLASSES, types=TYPES
    )
    return dict(zip(COLUMNS, found.tolist(), strict=True))


@given(
    own=arrays.arrays(float, len(CLASSES), elements=shares),
    base=arrays.arrays(float, len(TYPES), elements=shares),
)
def test_probabilities_are_whole(own: np.ndarray, base: np.ndarray) -> None:
    found = combined(own / own.sum(), base / base.sum(), classes=CLASSES, types=TYPES)
    assert found.shape == (len(COLUMNS),)
    assert (found >= 0).all()
    assert found.sum() == pytest.approx(1.0)


def test_a_type_that_the_model_does_not_have_is_named() -> None:
    """Its own classes are all that a model can name: a train is the sea to it."""
    found = both({"sea_waves": 0.95, "rain": 0.05}, {"train": 0.9, "sea_waves": 0.1})
    assert found["train"] == pytest.approx(0.45 / 0.55, abs=0.01)
    assert found["sea_waves"] == pytest.approx(0.1 / 0.55, abs=0.01)


def test_both_decide_between_the_classes_of_the_model() -> None:
    found = both({"rain": 0.9, "sea_waves": 0.1}, {"rain": 0.4, "sea_waves": 0.6})
    assert found["rain"] > 0.7 > 0.3 > found["sea_waves"]


def test_a_class_of_the_model_alone_keeps_its_probability() -> None:
    found = both({"my_machine": 0.8, "rain": 0.2}, {"train": 0.9, "rain": 0.1})
    assert found["my_machine"] == pytest.approx(0.8, abs=0.01)
    assert found["train"] == pytest.approx(0.2 * 0.45 / 0.55, abs=0.01)


@pytest.mark.parametrize(
    ("likely", "expected"),
    [
        ({"train": 0.5, "aircraft": 0.3}, "train"),
        # No type is likely enough, all of one group together are.
        ({"train": 0.3, "aircraft": 0.3, "rain": 0.2, "my_machine": 0.2}, "traffic"),
        ({"rain": 0.3, "sea_waves": 0.28, "train": 0.25, "my_machine": 0.17}, "nature"),
        ({"train": 0.3, "rain": 0.3, "my_machine": 0.2, "background": 0.2}, ""),
        ({"background": 0.4, "train": 0.3, "aircraft": 0.3}, BACKGROUND),
        ({"my_machine": 0.6, "train": 0.4}, "my_machine"),
    ],
)
def test_the_answer_is_a_type_else_a_group_else_nothing(
    likely: dict[str, float], expected: str
) -> None:
    found, confidence = answer(normalised(likely, COLUMNS), COLUMNS, LEAST)
    assert found == expected
    assert 0.0 <= confidence <= 1.0


def test_a_kind_of_a_type_backs_off_to_the_type() -> None:
    columns = ("siren", "siren_sweep", "rain", BACKGROUND)
    found, confidence = answer(np.array([0.3, 0.32, 0.3, 0.08]), columns, LEAST)
    assert found == "siren"
    assert confidence == pytest.approx(0.62)


def test_without_base_types_only_classes_of_the_model_are_reported() -> None:
    found = answer(np.array([0.3, 0.3, 0.2, 0.2]), CLASSES, dict.fromkeys(CLASSES, 0.35))
    assert found[0] in ("", BACKGROUND)
