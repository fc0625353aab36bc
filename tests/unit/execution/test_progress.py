"""Percent never falls, and the speed and the time left are correct and plausible."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from db.queries.session_view_queries import SessionView
from db.tables.sessions import SESSION_STATES, UNFINISHED_STATES
from services.api.sessions.progress import STAGES, Pace, Progress

START = datetime(2026, 1, 1, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def row(state: str, **values: object) -> SessionView:
    nothing: dict[str, Any] = dict.fromkeys(SessionView._fields)
    nothing |= {"stage_share": 0.0, "spans_total": 0, "spans_finished": 0}
    return SessionView(**(nothing | {"state": state} | values))


def detecting(finished: int, *, of: int = 60, told_s: float) -> SessionView:
    return row(
        "detecting",
        spans_total=of,
        spans_finished=finished,
        duration_s=of * 60.0,
        stage_since=at(0),
        stage_told_at=at(told_s),
    )


def test_every_stage_of_a_living_session_is_known() -> None:
    assert tuple(STAGES) == UNFINISHED_STATES


@given(
    shares=st.lists(
        st.tuples(st.sampled_from(UNFINISHED_STATES), st.floats(0, 1)), min_size=1, max_size=30
    ),
    spans_total=st.integers(1, 2_000),
)
def test_percent_never_falls(shares: list[tuple[str, float]], spans_total: int) -> None:
    """For any observations of a session whose rows move in one direction."""
    seen = sorted(shares, key=lambda each: (UNFINISHED_STATES.index(each[0]), each[1]))
    rows = [
        row(
            state,
            # The share of a queued session is that of all its stages, in one claim.
            stage_share=share if state in ("splitting", "aggregating") else 0.0,
            spans_total=spans_total,
            spans_finished=int(share * spans_total),
        )
        for state, share in seen
    ]
    percents = [Progress.of(each, now=at(0)).percent for each in rows]
    assert percents == sorted(percents)
    assert percents[0] >= 0
    assert percents[-1] <= 100


@pytest.mark.parametrize(
    ("share", "stage"),
    [
        (0.0, "queued"),
        (0.011, "splitting"),
        (0.399, "splitting"),
        (0.401, "detecting"),
        (0.751, "aggregating"),
    ],
)
def test_the_share_of_a_queued_session_is_that_of_all_stages(share: float, stage: str) -> None:
    told = Progress.of(row("queued", stage_share=share), now=at(0))
    assert (told.stage, told.percent) == (STAGES[stage], int(100 * share))


def test_the_time_left_of_a_queued_session_is_that_of_all_stages() -> None:
    half = row("queued", stage_share=0.5, stage_since=at(0), stage_told_at=at(10))
    assert Progress.of(half, now=at(10)).time_left_s == pytest.approx(10)


@pytest.mark.parametrize("state", SESSION_STATES)
def test_an_end_is_a_hundred_percent_and_has_no_time_left(state: str) -> None:
    told = Progress.of(
        row(state, stage_share=0.5, stage_since=at(0), stage_told_at=at(100)), now=at(101)
    )
    if state in UNFINISHED_STATES:
        assert told.percent < 100
    else:
        assert told == Progress(stage=state, percent=100)


def test_a_session_that_nobody_has_taken_up_tells_nothing() -> None:
    for state in UNFINISHED_STATES:
        told = Progress.of(row(state), now=at(1e6))
        assert (told.speed, told.time_left_s) == (None, None)


def test_speed_is_audio_over_time() -> None:
    told = Progress.of(detecting(20, told_s=10.0), now=at(10.0))
    assert told.speed == pytest.approx(20 * 60 / 10)


def test_time_left_counts_down_between_two_spans_and_up_while_nothing_comes() -> None:
    def left_s(now_s: float) -> float:
        told = Progress.of(detecting(20, told_s=100.0), now=at(now_s))
        assert told.time_left_s is not None
        return told.time_left_s

    # A span took 5 s.
    assert left_s(100) - left_s(105) == pytest.approx(5)
    assert left_s(105) < left_s(110) < left_s(200) < left_s(1_000)


def test_speed_falls_while_nothing_comes() -> None:
    speeds = [
        Progress.of(detecting(20, told_s=100.0), now=at(now_s)).speed
        for now_s in (100, 105, 110, 1_000)
    ]
    assert speeds[0] == speeds[1]
    assert speeds[1] > speeds[2] > speeds[3]  # type: ignore[operator]


def test_splitting_reckons_with_the_stages_behind_it() -> None:
    told = Progress.of(
        row("splitting", stage_share=0.5, stage_since=at(0), stage_told_at=at(39)), now=at(39)
    )
    # Splitting is 39 of a hundred parts: 39 s of it are left, and 2 s for each of the other 60.
    assert told.time_left_s == pytest.approx(39 + 60 * 2)
    assert told.speed is None


@given(
    share=st.floats(0.01, 1),
    worked_s=st.floats(1, 1e5),
    quiet_s=st.floats(-10, 1e6),
    gap_s=st.floats(0, 1e3),
)
def test_the_rest_is_never_negative(
    share: float, worked_s: float, quiet_s: float, gap_s: float
) -> None:
    pace = Pace(share=share, worked_s=worked_s, quiet_s=quiet_s, gap_s=gap_s)
    assert pace.is_telling
    assert pace.stage_left_s >= 0
    assert pace.stage_s >= worked_s


@given(n_spans=st.integers(2, 500), span_s=st.floats(0.5, 30), moment=st.floats(0, 1))
def test_of_a_steady_worker_the_rest_is_told_exactly(
    n_spans: int, span_s: float, moment: float
) -> None:
    """At any time between two spans, for any number of them."""
    for finished in {1, n_spans // 2, n_spans - 1} - {0}:
        worked_s, quiet_s = finished * span_s, moment * span_s
        pace = Pace(share=finished / n_spans, worked_s=worked_s, quiet_s=quiet_s, gap_s=span_s)
        true_s = n_spans * span_s - worked_s - quiet_s
        assert pace.stage_left_s == pytest.approx(true_s, rel=1e-6, abs=1e-6)
