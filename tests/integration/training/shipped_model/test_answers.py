"""How an answer of the product is scored."""

from __future__ import annotations

import numpy as np
import pytest

from actors.science.detection.tagging.backbone import RATE_HZ
from actors.science.types import UNCLASSIFIED, Event, TypeProbability
from actors.training.shipped_model import codecs
from actors.training.shipped_model.answers import (
    JudgedAnswer,
    answer,
    calibration_error,
    coded,
    is_true,
    outcome,
    shares,
)
from actors.training.sounds import Sound


def event(noise_type: str, start_s: float, end_s: float, *candidates: str) -> Event:
    return Event(
        start_s=start_s,
        end_s=end_s,
        noise_type=noise_type,
        confidence=0.8,
        laeq_db=-30.0,
        lafmax_db=-25.0,
        candidates=tuple(TypeProbability(name, 0.1) for name in candidates),
    )


def sound(noise_type: str, *also: str) -> Sound:
    return Sound("a", (noise_type,), "1", np.zeros(1, dtype=np.float32), also)


def test_the_answer_is_the_type_that_sounds_longest() -> None:
    train = [event("train", 0.0, 2.0), event("train", 5.0, 9.0)]
    heard = [*train, event("birds", 2.0, 5.0), event(UNCLASSIFIED, 9.0, 30.0)]
    assert answer(heard) is train[1]
    loud = event(UNCLASSIFIED, 0.0, 9.0, "train")
    assert answer([loud]) is loud
    assert outcome(loud, sound("train")) == ("no type", True)
    assert answer([]) is None


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


@pytest.mark.parametrize(
    ("heard", "truth", "expected"),
    [
        ("train", sound("train"), True),
        ("horn", sound("train", "horn"), True),
        ("sneeze", sound("cough_sneeze"), True),
        ("traffic", sound("train"), True),
        ("nature", sound("train", "birds"), True),
        ("aircraft", sound("train"), False),
        ("nature", sound("train"), False),
        ("a_type_of_mine", sound("train"), False),
    ],
)
def test_an_event_is_true_that_says_no_more_than_what_is_right(
    heard: str, truth: Sound, expected: bool
) -> None:
    assert is_true(event(heard, 0.0, 1.0), truth) is expected


def judged(outcome: str, *reported: tuple[float, bool]) -> JudgedAnswer:
    return JudgedAnswer("train", outcome, outcome == "right type", reported)


def test_shares_are_of_all_sounds() -> None:
    found = shares([judged("right type"), judged("no type"), judged("no type"), judged("no type")])
    assert list(found.values()) == [0.25, 0.0, 0.0, 0.75, 0.25]


def test_calibration_counts_every_reported_event() -> None:
    right, wrong = (0.8, True), (0.8, False)
    assert calibration_error([judged("right type", right, wrong)]) == pytest.approx(0.3)
    assert calibration_error([judged("a", right), judged("b", right)]) == pytest.approx(0.2)
    assert calibration_error([judged("a", (1.0, True), (0.4, False))]) == pytest.approx(0.2)
    assert np.isnan(calibration_error([judged("no type")]))


@pytest.mark.parametrize("codec", codecs.MEASURED)
def test_a_codec_keeps_the_sound_and_its_length(codec: str) -> None:
    times_s = np.arange(RATE_HZ) / RATE_HZ
    tone = (0.3 * np.sin(2 * np.pi * 440.0 * times_s)).astype(np.float32)
    [found] = coded([Sound("a", ("bell",), "1", tone)], codec)
    assert (found.name, found.types) == ("a", ("bell",))
    assert found.samples.size == pytest.approx(tone.size, abs=RATE_HZ // 10)
    strength = np.abs(np.fft.rfft(found.samples[: RATE_HZ // 2]))
    assert strength.argmax() == 220
    assert not np.array_equal(found.samples[: tone.size], tone)
