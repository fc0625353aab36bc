"""How an answer of the product is judged."""

from __future__ import annotations

import numpy as np
import pytest

from actors.science.types import UNCLASSIFIED, Candidate, Event
from actors.training.everyday import answer, outcome
from actors.training.sounds import Sound


def event(noise_type: str, start_s: float, end_s: float, *candidates: str) -> Event:
    return Event(
        start_s=start_s,
        end_s=end_s,
        noise_type=noise_type,
        confidence=0.8,
        laeq_db=-30.0,
        lafmax_db=-25.0,
        candidates=tuple(Candidate(name, 0.1) for name in candidates),
    )


def sound(noise_type: str, *also: str) -> Sound:
    return Sound("a", (noise_type,), "1", np.zeros(1, dtype=np.float32), also)


def test_the_answer_is_the_type_that_sounds_longest() -> None:
    train = [event("train", 0.0, 2.0), event("train", 5.0, 9.0)]
    heard = [*train, event("birds", 2.0, 5.0), event(UNCLASSIFIED, 9.0, 30.0)]
    assert answer(heard) is train[1]
    assert answer([event(UNCLASSIFIED, 0.0, 9.0)]) is None


@pytest.mark.parametrize(
    ("heard", "truth", "expected"),
    [
        ("train", sound("train"), "right type"),
        ("horn", sound("train", "horn"), "right type"),
        ("sneeze", sound("cough_sneeze"), "right type"),
        ("traffic", sound("train"), "right group"),
        ("aircraft", sound("train"), "right group"),
        ("rain", sound("train"), "wrong group"),
        ("a_type_of_mine", sound("train"), "wrong group"),
    ],
)
def test_an_answer_is_of_the_right_type_group_or_neither(
    heard: str, truth: Sound, expected: str
) -> None:
    assert outcome(event(heard, 0.0, 1.0), truth)[0] == expected


def test_candidates_count_as_far_as_the_third() -> None:
    found = event("rain", 0.0, 1.0, "rain", "wind", "train", "boat")
    assert outcome(found, sound("train")) == ("wrong group", True)
    assert outcome(found, sound("boat")) == ("wrong group", False)
    assert outcome(None, sound("train")) == ("no type", False)
