"""When a model may take the place of another."""

from __future__ import annotations

from typing import Any

import pytest

from db.models import NoiseModel
from db.training_models import Validation
from services import promotion


def model(clip_accuracy: float | None = None, *, data: str = "d") -> NoiseModel:
    """A model that was trained here if it has an accuracy, else a file from elsewhere."""
    card = None if clip_accuracy is None else {"clip_accuracy": clip_accuracy, "data_sha256": data}
    return NoiseModel(name="hums", version="1", header={}, card=card)


def shipped(**training: Any) -> NoiseModel:
    return NoiseModel(name="base", version="2", header={"training": training})


def validated(**figures: float) -> Validation:
    return Validation(set_sha256="s", report={"figures": figures})


def worse(*arguments: Any) -> list[str]:
    return [figure.name for figure in promotion.compare(*arguments).worse]


def test_with_nothing_to_compare_nothing_speaks_against_it() -> None:
    for arguments in ((model(0.9), None, None), (model(0.9), model(), None)):
        comparison = promotion.compare(*arguments)
        assert (comparison.basis, comparison.worse) == (promotion.NOTHING, [])


def test_a_shared_set_goes_before_cross_validation() -> None:
    shared = validated(clip_accuracy=0.9), validated(clip_accuracy=0.8)
    comparison = promotion.compare(model(0.5), model(0.9), shared)
    assert (comparison.basis, comparison.set_sha256, comparison.worse) == ("validation", "s", [])
    assert worse(model(0.5), model(0.9), None) == ["clip_accuracy"]


@pytest.mark.parametrize(
    "training", [{"accuracy": 0.9}, {"clip_accuracy": 0.9}, {"clip_accuracy": 0.9, "accuracy": 0.2}]
)
def test_accuracies_of_other_clips_are_shown_and_not_compared(training: dict[str, float]) -> None:
    for other in (shipped(**training, data_sha256="other"), shipped(**training), model(0.9)):
        comparison = promotion.compare(model(0.5, data="own"), other, None)
        assert (comparison.basis, comparison.worse) == (promotion.NOTHING, [])
        [figure] = comparison.figures
        assert (figure.candidate, figure.in_use, figure.is_worse) == (0.5, 0.9, False)


def test_the_same_clips_can_be_compared_wherever_the_model_was_trained() -> None:
    comparison = promotion.compare(model(0.5), shipped(accuracy=0.9, data_sha256="d"), None)
    assert comparison.basis == promotion.CROSS_VALIDATION
    assert [figure.name for figure in comparison.worse] == ["clip_accuracy"]


@pytest.mark.parametrize("training", [{}, {"accuracy": "high"}, {"accuracy": 7, "data_sha256": 7}])
def test_what_a_file_says_of_its_training_may_be_anything(training: dict[str, Any]) -> None:
    comparison = promotion.compare(shipped(**training), model(0.9), None)
    assert (comparison.basis, comparison.figures) == (promotion.NOTHING, [])
    nameless = NoiseModel(name="x", version="1", header={"training": "hard"})
    assert (nameless.clip_accuracy, nameless.data_sha256) == (None, None)


def test_every_figure_counts_in_its_own_direction() -> None:
    better = {"segment_f1": 0.8, "event_f1": 0.5, "psds": 0.4, "false_alarms_per_hour": 2.0}
    for name, value in better.items():
        fallen = value + 2.0 if name == "false_alarms_per_hour" else value - 0.02
        pair = validated(**{**better, name: fallen}), validated(**better)
        assert worse(model(), model(), pair) == [name]
        assert worse(model(), model(), pair[::-1]) == []


def test_a_hair_is_no_regression_and_missing_figures_are_not_compared() -> None:
    pair = validated(clip_accuracy=0.897, psds=0.1), validated(clip_accuracy=0.9)
    assert worse(model(), model(), pair) == []


def test_the_reason_names_the_figures() -> None:
    reason = promotion.compare(model(0.5), model(0.9), None).reason()
    assert "clip_accuracy 0.500 against 0.900" in reason
