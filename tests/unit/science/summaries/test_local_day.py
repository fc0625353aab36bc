"""Days of 23, 24 and 25 hours, and their sound."""

from __future__ import annotations

import itertools
import math
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.science.summaries import local_day
from actors.science.summaries.local_day import NoSuchDay, RecordedInterval

#: Day, zone, its start and end in UTC, its number of hours, and some of their labels with their
#: length in minutes: worked out by hand.
DAYS = [
    (
        "2026-03-29", "Europe/Berlin", "2026-03-28T23:00", "2026-03-29T22:00", 23,
        {1: ("01:00+01:00", 60), 2: ("03:00+02:00", 60)},
    ),
    (
        "2026-10-25", "Europe/Berlin", "2026-10-24T22:00", "2026-10-25T23:00", 25,
        {2: ("02:00+02:00", 60), 3: ("02:00+01:00", 60), 4: ("03:00+01:00", 60)},
    ),
    (
        "2026-03-08", "America/New_York", "2026-03-08T05:00", "2026-03-09T04:00", 23,
        {1: ("01:00-05:00", 60), 2: ("03:00-04:00", 60)},
    ),
    (
        "2026-11-01", "America/New_York", "2026-11-01T04:00", "2026-11-02T05:00", 25,
        {1: ("01:00-04:00", 60), 2: ("01:00-05:00", 60), 24: ("23:00-05:00", 60)},
    ),
    # From +10:30 to +11 at two o'clock, and back.
    (
        "2026-10-04", "Australia/Lord_Howe", "2026-10-03T13:30", "2026-10-04T13:00", 24,
        {1: ("01:00+10:30", 60), 2: ("02:30+11:00", 30), 3: ("03:00+11:00", 60)},
    ),
    (
        "2026-04-05", "Australia/Lord_Howe", "2026-04-04T13:00", "2026-04-05T13:30", 25,
        {1: ("01:00+11:00", 60), 2: ("01:30+10:30", 30), 3: ("02:00+10:30", 60)},
    ),
    # Clocks went forward at midnight: the day begins at one.
    (
        "2018-11-04", "America/Sao_Paulo", "2018-11-04T03:00", "2018-11-05T02:00", 23,
        {0: ("01:00-02:00", 60)},
    ),
    # Clocks went back at midnight: its last hour occurs twice.
    (
        "2018-02-17", "America/Sao_Paulo", "2018-02-17T02:00", "2018-02-18T03:00", 25,
        {23: ("23:00-02:00", 60), 24: ("23:00-03:00", 60)},
    ),
    ("2026-03-14", "Asia/Kathmandu", "2026-03-13T18:15", "2026-03-14T18:15", 24,
     {0: ("00:00+05:45", 60), 23: ("23:00+05:45", 60)}),
]  # fmt: skip
ZONES = sorted({each[1] for each in DAYS} | {"UTC", "America/St_Johns", "Pacific/Apia"})
WORDS = ("day", "evening", "night")


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(("on", "zone", "begin", "end", "n_hours", "hours"), DAYS)
def test_a_day_lasts_from_midnight_to_midnight(
    on: str, zone: str, begin: str, end: str, n_hours: int, hours: dict[int, tuple[str, int]]
) -> None:
    made = local_day.day_of(date.fromisoformat(on), zone)
    assert (made.begin, made.end, len(made.hours)) == (utc(begin), utc(end), n_hours)
    for at, (label, minutes) in hours.items():
        assert made.hours[at].label == label
        assert made.hours[at].end - made.hours[at].begin == timedelta(minutes=minutes)
    labels = [hour.label for hour in made.hours]
    assert len(set(labels)) == len(labels)


@given(st.dates(date(1971, 1, 1), date(2037, 12, 30)), st.sampled_from(ZONES))
def test_hours_and_periods_are_the_day(on: date, zone: str) -> None:
    try:
        made = local_day.day_of(on, zone)
    except NoSuchDay:
        assert (on, zone) == (date(2011, 12, 30), "Pacific/Apia")
        return
    for hour, following in itertools.pairwise(made.hours):
        assert hour.end == following.begin
    assert all(timedelta() < hour.end - hour.begin <= timedelta(hours=1.5) for hour in made.hours)
    assert 23 <= (made.end - made.begin) / timedelta(hours=1) <= 25
    # Each hour has one period, so together the periods are the day.
    assert {hour.period for hour in made.hours} == set(WORDS)
    evening = [hour.local_hour for hour in made.hours if hour.period == "evening"]
    assert evening == [19, 20, 21, 22]
    for hour in made.hours:
        assert (hour.period == "night") == (hour.local_hour < 7 or hour.local_hour == 23)


def test_a_day_that_was_left_out_is_none() -> None:
    with pytest.raises(NoSuchDay, match="2011-12-30"):
        local_day.day_of(date(2011, 12, 30), "Pacific/Apia")
    for end in (date.min, date.max):
        with pytest.raises(NoSuchDay, match="out of range"):
            local_day.day_of(end, "Asia/Tokyo" if end == date.min else "America/New_York")


@pytest.mark.parametrize(("on", "zone"), [each[:2] for each in DAYS])
@pytest.mark.parametrize("level_db", [-42.0, 65.3])
def test_a_constant_level_is_told_as_it_is(on: str, zone: str, level_db: float) -> None:
    made = local_day.day_of(date.fromisoformat(on), zone)
    begin_s, end_s = made.begin.timestamp(), made.end.timestamp()
    found = local_day.sound(
        made, [RecordedInterval(begin_s - 500, end_s + 900, 10 ** (level_db / 10))]
    )
    for name in ("laeq_db", "lday_db", "levening_db", "lnight_db"):
        assert found[name] == pytest.approx(level_db, abs=0.006)
    # (12 + 4 * 10^0.5 + 8 * 10) / 24 is 4.3604, which is 6.395 dB.
    assert found["lden_db"] == pytest.approx(level_db + 6.395, abs=0.006)
    assert set(found["covered"].values()) == {1.0}
    assert {hour["covered"] for hour in found["hours"]} == {1.0}


def test_levels_are_means_of_energy_over_what_is_recorded() -> None:
    made = local_day.day_of(date(2026, 3, 14), "UTC")
    begin_s = made.begin.timestamp()
    # An hour of the day, half an hour of the evening, and a quarter of the night, in two parts.
    found = local_day.sound(
        made,
        [
            RecordedInterval(begin_s + 8 * 3_600, begin_s + 9 * 3_600, 1e6),
            RecordedInterval(begin_s + 18.75 * 3_600, begin_s + 19.5 * 3_600, 1e4),
            RecordedInterval(begin_s - 900, begin_s + 7_200, 1e3),
        ],
    )
    assert found["lday_db"] == pytest.approx(10 * math.log10((1e6 + 0.25e4) / 1.25), abs=0.006)
    assert (found["levening_db"], found["lnight_db"]) == (40.0, 30.0)
    assert found["covered"] == {
        "day": round(1.25 / 12, 4), "evening": 0.125, "night": 0.25, "whole": round(3.75 / 24, 4),
    }  # fmt: skip
    assert [hour["laeq_db"] for hour in found["hours"]][:3] == [30.0, 30.0, None]
    assert found["hours"][19] == {"laeq_db": 40.0, "covered": 0.5}


def test_what_is_recorded_twice_is_covered_once() -> None:
    made = local_day.day_of(date(2026, 3, 14), "UTC")
    at_s = made.begin.timestamp() + 3_600
    found = local_day.sound(
        made,
        [
            RecordedInterval(at_s, at_s + 1_800, 1.0),
            RecordedInterval(at_s + 900, at_s + 2_700, 3.0),
        ],
    )
    assert found["hours"][1] == {"laeq_db": 3.01, "covered": 0.75}


def test_overload_is_a_share_of_the_recordings_in_which_it_was_measured() -> None:
    made = local_day.day_of(date(2026, 3, 14), "UTC")
    at_s = made.begin.timestamp()
    found = local_day.sound(
        made,
        [
            # Half of it is on the day before.
            RecordedInterval(at_s - 900, at_s + 900, 1.0, 0.5, 0.9),
            RecordedInterval(at_s + 900, at_s + 1_800, 3.0, 0.0, 0.0),
            RecordedInterval(at_s + 3_600, at_s + 7_200, 9.0),
        ],
    )
    assert found["overload"] == {"overloaded_s": 450.0, "share": 0.25, "energy_share": 0.225}
    unknown = local_day.sound(made, [RecordedInterval(at_s, at_s + 900, 1.0)])
    assert set(unknown["overload"].values()) == {None}
    silent = local_day.sound(made, [RecordedInterval(at_s, at_s + 900, 0.0, 0.0, 0.0)])
    assert silent["overload"] == {"overloaded_s": 0.0, "share": 0.0, "energy_share": None}


@given(
    begin_s=st.floats(0, 3_600),
    holes=st.lists(st.tuples(st.floats(0, 7_000), st.floats(0, 7_200)), max_size=5),
)
def test_holes_are_not_covered_and_lower_no_level(
    begin_s: float, holes: list[tuple[float, float]]
) -> None:
    """A recording of two hours; its quarters have their level wherever something is recorded."""
    made = local_day.day_of(date(2026, 3, 14), "UTC")
    begin_s += made.begin.timestamp()
    in_order = sorted((start_s, min(start_s + length_s, 7_200)) for start_s, length_s in holes)
    quarters = [1.0] * math.ceil((begin_s % local_day.QUARTER_S + 7_200) / local_day.QUARTER_S)
    parts = local_day.recorded_intervals(begin_s, 7_200, quarters, holes=in_order)
    seconds = np.ones(72_000, dtype=bool)
    for start_s, end_s in in_order:
        seconds[round(10 * start_s) : round(10 * end_s)] = False
    recorded_s = seconds.sum() / 10
    assert sum(part.end_s - part.begin_s for part in parts) == pytest.approx(recorded_s, abs=0.6)
    found = local_day.sound(made, parts)
    assert found["covered"]["whole"] == pytest.approx(recorded_s / 86_400, abs=1e-4)
    assert found["laeq_db"] in (0.0, None)


def test_silence_and_nothing_have_no_level() -> None:
    made = local_day.day_of(date(2026, 3, 14), "UTC")
    begin_s = made.begin.timestamp()
    nothing = local_day.sound(made, [])
    assert (nothing["laeq_db"], nothing["lden_db"], nothing["covered"]["whole"]) == (None, None, 0)
    silent = local_day.sound(made, [RecordedInterval(begin_s, begin_s + 86_400, 0.0)])
    assert (silent["laeq_db"], silent["lden_db"], silent["covered"]["whole"]) == (None, None, 1)
    # A silent night leaves the levels of day and evening.
    at = [begin_s + hour * 3_600 for hour in (0, 7, 23, 24)]
    quiet_night = local_day.sound(
        made,
        [
            RecordedInterval(at[0], at[1], 0.0),
            RecordedInterval(at[1], at[2], 1e6),
            RecordedInterval(at[2], at[3], 0.0),
        ],
    )
    assert quiet_night["lnight_db"] is None
    expected = 60 + 10 * math.log10((12 + 4 * 10**0.5) / 24)
    assert quiet_night["lden_db"] == pytest.approx(expected, abs=0.006)


@given(st.integers(0, 86_400), st.integers(1, 90_000))
def test_the_quarters_of_a_recording_are_all_of_it(offset_s: int, duration_s: int) -> None:
    begin_s = 1_700_000_000 + offset_s
    lead_s = local_day.lead_s(datetime.fromtimestamp(begin_s, UTC))
    n_quarters = math.ceil(round((lead_s + duration_s) / local_day.QUARTER_S, 6))
    parts = local_day.recorded_intervals(begin_s, duration_s, [1.0] * n_quarters)
    assert (parts[0].begin_s, parts[-1].end_s) == (begin_s, begin_s + duration_s)
    for part, following in itertools.pairwise(parts):
        assert part.end_s == following.begin_s
        assert part.end_s % local_day.QUARTER_S == 0
    assert all(0 < part.end_s - part.begin_s <= local_day.QUARTER_S for part in parts)


def test_the_mean_of_levels_is_of_their_energy() -> None:
    assert local_day.mean_db([60.0, None, 50.0]) == pytest.approx(57.40, abs=0.006)
    assert local_day.mean_db([None]) is None
