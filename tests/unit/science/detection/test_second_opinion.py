"""Classification of a segment by a model together with the base types."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from actors.facts import noise_types
from actors.science.detection import inference, second_opinion
from actors.science.detection.second_opinion import (
    Opinion,
    Overlay,
    SecondOpinion,
    any_of,
    apart,
    combined,
    named,
    ranked,
)
from actors.science.detection.tagging.backbone import FRAME
from actors.science.detection.tagging.tagger import Tagger
from actors.science.types import BACKGROUND, TypeProbability

CLASSES = ("background", "rain", "sea_waves", "my_machine")
LEAST = second_opinion.thresholds() | {"my_machine": 0.35}
TYPES = [name for name, row in noise_types.table().items() if row.parent is not None]

probabilities = st.floats(0.0, 1.0)


def both(own: dict[str, float], base: dict[str, float]) -> dict[str, float]:
    shares = np.array([own.get(name, 1e-6) for name in CLASSES])
    return combined(shares / shares.sum(), base, classes=CLASSES)


def reported(likely: dict[str, float]) -> list[str]:
    return [answer.noise_type for answer in named(likely, LEAST).answers]


@given(own=st.lists(st.floats(0.001, 1.0), min_size=4, max_size=4), base=probabilities)
def test_probabilities_are_probabilities_and_background_is_no_type(
    own: list[float], base: float
) -> None:
    found = both(dict(zip(CLASSES, own, strict=True)), {"rain": base, "train": base})
    assert found.keys() == {"rain", "train", "sea_waves", "my_machine"}
    assert all(0.0 <= each <= 1.0 for each in found.values())


def test_what_only_one_of_both_has_keeps_its_probability() -> None:
    found = both({"my_machine": 0.8, "rain": 0.2}, {"train": 0.9, "rain": 0.1})
    assert found["my_machine"] == pytest.approx(0.8, abs=0.01)
    assert found["train"] == 0.9


def test_a_sound_that_the_model_takes_for_one_of_its_classes_is_not_named_so() -> None:
    """A model can only assign its own classes: here it classifies a train as the sea."""
    found = both({"sea_waves": 0.9, "rain": 0.1}, {"train": 0.9, "sea_waves": 0.02, "rain": 0.02})
    assert reported(found) == ["train"]


@given(base=st.floats(0.01, 0.99), more=st.floats(0.01, 0.5))
def test_both_count_for_a_class_of_both(base: float, more: float) -> None:
    less_sure = both({"rain": 0.3, "background": 0.7}, {"rain": base})
    surer = both({"rain": 0.3 + more, "background": 0.7 - more}, {"rain": base})
    assert surer["rain"] > less_sure["rain"]


def test_the_model_does_not_drown_a_type_that_was_trained() -> None:
    """It assigns a sound of a new type to one of its classes, since it lacks the new one."""
    own = np.array([0.01, 0.97, 0.01, 0.01])
    base = {"rain": 0.3, "our_pump": 0.9}
    without = combined(own, base, classes=CLASSES)
    found = combined(own, base, classes=CLASSES, trained=["our_pump"])
    assert found["our_pump"] == without["our_pump"] == 0.9
    assert found["rain"] < 0.5 < without["rain"]


def test_a_class_of_the_model_that_was_refined_is_still_judged_by_both() -> None:
    own = np.array([0.01, 0.97, 0.01, 0.01])
    without = combined(own, {"rain": 0.3}, classes=CLASSES)
    assert combined(own, {"rain": 0.3}, classes=CLASSES, trained=["rain"]) == without
    unsure = combined(own, {"rain": 0.01}, classes=CLASSES, trained=["rain"])
    assert unsure["rain"] < without["rain"] < 0.97


@pytest.mark.parametrize(
    ("likely", "expected"),
    [
        ({"train": 0.5, "aircraft": 0.3}, ["train"]),
        # A street has several of them at once.
        ({"birds": 0.8, "road_traffic": 0.9, "rain": 0.6}, ["road_traffic", "birds"]),
        # No type is probable enough, but a sound of one group is.
        ({"train": 0.24, "aircraft": 0.24, "helicopter": 0.24, "rain": 0.1}, ["traffic"]),
        ({"rain": 0.24, "sea_waves": 0.24, "wind": 0.24, "train": 0.245}, ["nature"]),
        ({"train": 0.2, "rain": 0.2}, []),
        ({"my_machine": 0.6, "train": 0.3}, ["my_machine"]),
        ({"my_machine": 0.3, "train": 0.2}, []),
        ({"a_type_of_another_model": 0.9}, []),
        # A probable subtype replaces its type, and a type its subtypes.
        ({"siren": 0.7, "siren_sweep": 0.6}, ["siren_sweep"]),
        ({"siren": 0.7, "siren_sweep": 0.4}, ["siren"]),
        ({"siren": 0.2, "siren_sweep": 0.2, "rain": 0.1}, []),
    ],
)
def test_answers_are_types_else_a_group_else_nothing(
    likely: dict[str, float], expected: list[str]
) -> None:
    assert reported(likely) == expected


@given(st.dictionaries(st.sampled_from(TYPES), probabilities, min_size=1))
def test_a_group_is_likelier_than_its_types(likely: dict[str, float]) -> None:
    for name, probability in likely.items():
        for upper in (name, *noise_types.above(name)):
            assert any_of(upper, likely) >= probability - 1e-12
    found = named(likely, LEAST)
    assert len({each.noise_type for each in found.answers}) == len(found.answers)
    assert [each.score for each in found.candidates] == sorted(likely.values(), reverse=True)
    assert all(each.score >= LEAST[each.noise_type] for each in found.answers)
    assert BACKGROUND not in {each.noise_type for each in found.answers}


class Shares(Tagger):
    """A tagger whose probability of a type is the share of frames that are loud in its channel.

    The integer part of a sample is traffic, its fraction birds: 1.5 is both.
    """

    types = ("birds", "road_traffic")

    def __init__(self) -> None:
        """Skip loading weights."""

    def frames(self, piece: NDArray[np.float32]) -> NDArray[np.float32]:
        padded = np.pad(piece, (0, -piece.size % FRAME)).reshape(-1, FRAME).mean(axis=1)
        return np.stack([2 * (padded % 1), padded // 1], axis=1).astype(np.float32)

    def logits(self, embeddings: NDArray[np.float32]) -> NDArray[np.float64]:
        return np.asarray(20.0 * (embeddings.astype(np.float64) - 0.6))

    def evidence(self, embeddings: NDArray[np.float32]) -> NDArray[np.float64]:
        return np.asarray(self.logits(embeddings).mean(axis=0))


def opinion_of(*parts: tuple[float, int]) -> Opinion:
    """Return the opinion on a recording of constant parts, each with a number of frames."""
    samples = np.concatenate([np.full(n * FRAME, value, dtype=np.float32) for value, n in parts])
    opinion = SecondOpinion(Shares(), inference.in_memory(samples), samples.size)
    return opinion.of(0, samples.size)


def test_what_sounds_over_a_part_of_a_stretch_is_found_with_its_edges() -> None:
    found = opinion_of((1.0, 4), (1.5, 12), (1.0, 8))
    assert found.likely["road_traffic"] > 0.99
    assert found.likely["birds"] < 0.5
    (birds,) = apart(found.overlays, [TypeProbability("road_traffic", 0.99)])
    assert (birds.noise_type, birds.start, birds.stop) == ("birds", 4 * FRAME, 16 * FRAME)
    assert birds.probability >= second_opinion.LEAST_OF_OVERLAY


def test_what_is_said_of_the_whole_stretch_is_not_said_again_of_a_part() -> None:
    found = opinion_of((1.5, 24))
    assert {each.noise_type for each in found.overlays} == {"birds", "road_traffic"}
    answers = [TypeProbability("birds", 0.99), TypeProbability("traffic", 0.99)]
    assert apart(found.overlays, answers) == []


def test_of_parts_that_lie_over_each_other_the_likeliest_is_kept() -> None:
    bell, alarm = Overlay("bell", 0, 10, 0.99), Overlay("alarm", 5, 12, 0.96)
    later = Overlay("alarm", 12, 20, 0.97)
    assert apart([alarm, bell, later], []) == [bell, later]


def test_a_short_stretch_has_no_parts() -> None:
    assert opinion_of((1.5, second_opinion.OVERLAY_FRAMES)).overlays == []


@given(parts=st.lists(st.booleans(), min_size=2, max_size=2), gap=st.integers(7, 9))
def test_every_part_with_a_sound_is_an_overlay(parts: list[bool], gap: int) -> None:
    """At the start, at the end, both or none; a gap of seven frames separates them."""
    before, after = (1.5 if is_on else 1.0 for is_on in parts)
    overlays = opinion_of((before, 11), (1.0, gap), (after, 11)).overlays
    found = {(each.start, each.stop) for each in overlays if each.noise_type == "birds"}
    n_frames = 22 + gap
    expected = [(0, 11 * FRAME), ((n_frames - 11) * FRAME, n_frames * FRAME)]
    assert found == {span for span, is_on in zip(expected, parts, strict=True) if is_on}


@given(
    scores=st.dictionaries(st.sampled_from(TYPES), probabilities, min_size=1),
    evidence=st.dictionaries(st.sampled_from(TYPES), st.floats(-20.0, 20.0)),
)
def test_candidates_are_ordered_and_none_is_lost(
    scores: dict[str, float], evidence: dict[str, float]
) -> None:
    given = [TypeProbability(name, score) for name, score in scores.items()]
    found = ranked(given, evidence)
    assert {each.noise_type: each.score for each in found} == scores


def test_tags_decide_between_candidates_of_about_the_same_probability() -> None:
    given = [TypeProbability("door", 0.2), TypeProbability("wind", 0.15), TypeProbability("x", 0.1)]
    names = [each.noise_type for each in ranked(given, {"door": -3.0, "wind": 1.0})]
    assert names == ["wind", "x", "door"]
    sure = [TypeProbability("door", 0.99), TypeProbability("wind", 0.05)]
    assert [each.noise_type for each in ranked(sure, {"wind": 1.0})] == ["door", "wind"]
