"""Merging: runs, gaps, levels, and the end of the recording."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from actors.science.chunks import plan_chunks
from actors.science.events import BACKGROUND, merge
from actors.science.levels import LevelSeries
from actors.science.types import Event

CLASSES = (BACKGROUND, "bark", "rain")
LETTERS = {".": 0, "b": 1, "r": 2}


def levels(n_s: float, *, level_db: float = -30.0) -> LevelSeries:
    mean_square = np.full(int(np.ceil(n_s * 10)), 10 ** (level_db / 10), dtype=np.float32)
    return LevelSeries(8_000, round(n_s * 8_000), mean_square, 2 * mean_square)


def scores(pattern: str, *, sure: float = 0.8) -> NDArray[np.float32]:
    rows = np.full((len(pattern), 3), (1 - sure) / 2, dtype=np.float32)
    for index, letter in enumerate(pattern):
        if letter == "?":
            rows[index] = [0.2, 0.45, 0.35]
        else:
            rows[index, LETTERS[letter]] = sure
    return rows


def heard(pattern: str, *, level_db: float = -30.0, duration_s: float | None = None) -> list[Event]:
    seconds = float(len(pattern)) if duration_s is None else duration_s
    return merge(
        scores(pattern),
        plan_chunks(0, len(pattern) * 16_000, chunk=16_000),
        classes=CLASSES,
        levels=levels(seconds, level_db=level_db),
        duration_s=seconds,
    )


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("....", []),
        ("b", [("bark", 0, 1)]),
        (".bb.", [("bark", 1, 3)]),
        ("b.b", [("bark", 0, 3)]),
        ("b?b", [("bark", 0, 3)]),
        ("b..b", [("bark", 0, 1), ("bark", 3, 4)]),
        ("b.b.b", [("bark", 0, 5)]),
        ("bbrr", [("bark", 0, 2), ("rain", 2, 4)]),
        ("brb", [("bark", 0, 1), ("rain", 1, 2), ("bark", 2, 3)]),
        ("b.r", [("bark", 0, 1), ("rain", 2, 3)]),
        ("?", []),
    ],
)
def test_runs_become_events(pattern: str, expected: list[tuple[str, float, float]]) -> None:
    assert [(e.noise_type, e.start_s, e.end_s) for e in heard(pattern)] == expected


def test_an_event_has_its_confidence_and_levels() -> None:
    (event,) = heard(".bb.")
    assert event.confidence == pytest.approx(0.8)
    assert event.laeq_db == pytest.approx(-30.0, abs=0.01)
    assert event.lafmax_db == pytest.approx(-26.99, abs=0.01)


def test_an_event_ends_with_the_recording() -> None:
    (event,) = heard("bbb", duration_s=2.7)
    assert event.end_s == 2.7


@pytest.mark.parametrize("level_db", [-95.0, -300.0])
def test_silence_has_no_events(level_db: float) -> None:
    assert heard("bbrr", level_db=level_db) == []


def test_nothing_has_no_events() -> None:
    assert merge(scores(""), [], classes=CLASSES, levels=levels(0), duration_s=0.0) == []


@given(pattern=st.text("b.r?", min_size=1, max_size=40))
def test_events_are_in_order_and_never_overlap(pattern: str) -> None:
    found = heard(pattern)
    assert all(a.end_s <= b.start_s for a, b in pairwise(found))
    assert all(0 <= e.start_s < e.end_s <= len(pattern) for e in found)
    assert all(0 <= e.confidence <= 1 for e in found)
    assert all(e.noise_type != BACKGROUND for e in found)


def test_scores_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="row"):
        merge(scores("bb"), [], classes=CLASSES, levels=levels(2), duration_s=2.0)
