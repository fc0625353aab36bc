"""When a model may replace another."""

from __future__ import annotations

from typing import Any

import pytest

from actors.science.detection import classifier
from db.tables.models import NoiseModel
from db.tables.training import Validation
from services.api.models import promotion


def model(
    clip_accuracy: float | None = None,
    *,
    data: str = "d",
    classes: tuple[str, ...] = (),
    **card: Any,
) -> NoiseModel:
    """Return a model trained here if it has an accuracy, else one from an uploaded file."""
    trained = {"clip_accuracy": clip_accuracy, "data_sha256": data} | card
    header = {"classes": list(classes)}
    return NoiseModel(
        name="hums", version="1", header=header, card=None if clip_accuracy is None else trained
    )


def shipped(**training: Any) -> NoiseModel:
    return NoiseModel(name="base", version="2", header={"training": training})


def validated(**figures: float) -> Validation:
    return Validation(set_sha256="s", report={"figures": figures})


def worse(*arguments: Any) -> list[str]:
    return [figure.name for figure in promotion.compare(*arguments).worse]


def test_with_nothing_to_compare_nothing_speaks_against_it() -> None:
    for arguments in ((model(0.9), None, None), (model(0.9), model(), None)):
        comparison = promotion.compare(*arguments)
        assert (comparison.basis, comparison.is_regression) == (promotion.NOTHING, False)


def test_a_shared_set_goes_before_cross_validation() -> None:
    shared = validated(clip_accuracy=0.9), validated(clip_accuracy=0.8)
    comparison = promotion.compare(model(0.5), model(0.9), shared)
    assert (comparison.basis, comparison.set_sha256, comparison.worse) == ("validation", "s", [])
    assert worse(model(0.5), model(0.9), None) == ["clip_accuracy"]


def test_a_worse_accuracy_of_other_clips_counts_and_is_called_so() -> None:
    training = {"clip_accuracy": 0.9}
    for other in (shipped(**training, data_sha256="other"), shipped(**training), model(0.9)):
        comparison = promotion.compare(model(0.5, data="own"), other, None)
        assert comparison.basis == promotion.NOTHING
        [figure] = comparison.figures
        assert (figure.candidate, figure.in_use, figure.is_worse) == (0.5, 0.9, True)
        assert "clip_accuracy 0.500" in comparison.reason()
        assert "0.900" in comparison.reason()
        assert "different clips" in comparison.reason()


def test_the_base_model_of_94_percent_is_not_replaced_by_one_of_92_5_with_ten_types_less() -> None:
    base = classifier.shipped()
    in_use = NoiseModel(name="clamor-base", version="2", header=base.header)
    kept = ("background", "dog_bark", "rain", "siren_sweep", "mains_hum", "rooster")
    comparison = promotion.compare(model(0.925, data="own", classes=kept), in_use, None)
    assert comparison.is_regression
    assert comparison.lost_noise_types == sorted(set(base.classes) - set(kept))
    assert len(comparison.lost_noise_types) == 10
    [figure] = comparison.worse
    assert (figure.candidate, figure.in_use) == (0.925, 0.9403)
    reason = comparison.reason()
    assert "(10): alarm_tone, baby_cry, " in reason
    assert "clip_accuracy 0.925" in reason
    assert "0.940" in reason
    # More types and a higher accuracy are no regression.
    more = model(0.95, data="own", classes=(*base.classes, "wind"))
    assert not promotion.compare(more, in_use, None).is_regression


def test_a_type_that_is_lost_counts_although_every_figure_is_better() -> None:
    shared = validated(clip_accuracy=0.9), validated(clip_accuracy=0.8)
    less, all_types = model(0.9, classes=("rain",)), model(0.8, classes=("rain", "wind"))
    comparison = promotion.compare(less, all_types, shared)
    assert (comparison.is_regression, comparison.worse) == (True, [])
    assert "worse" not in comparison.reason()
    assert "wind" in comparison.reason()
    assert not promotion.compare(all_types, less, shared[::-1]).lost_noise_types


def test_calibration_is_compared_on_both_bases() -> None:
    good, bad = ({"expected_error": error} for error in (0.02, 0.08))
    assert worse(model(0.9, calibration=bad), model(0.9, calibration=good), None) == [
        "calibration_error"
    ]
    assert worse(model(0.9, calibration=good), model(0.9, calibration=bad), None) == []
    assert worse(model(0.9, calibration=good), model(0.9, calibration=None), None) == []
    pair = [
        Validation(set_sha256="s", report={"figures": {}, "clips": {"calibration": quality}})
        for quality in (bad, good)
    ]
    assert worse(model(), model(), (pair[0], pair[1])) == ["calibration_error"]


def test_the_same_clips_can_be_compared_wherever_the_model_was_trained() -> None:
    comparison = promotion.compare(model(0.5), shipped(clip_accuracy=0.9, data_sha256="d"), None)
    assert comparison.basis == promotion.CROSS_VALIDATION
    assert [figure.name for figure in comparison.worse] == ["clip_accuracy"]


@pytest.mark.parametrize(
    "training", [{}, {"clip_accuracy": "high"}, {"clip_accuracy": 7, "data_sha256": 7}]
)
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
    assert "clip_accuracy 0.500" in reason
    assert "0.900" in reason
    assert "the same clips" in reason
    assert "force" in reason
