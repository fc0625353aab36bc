"""Times as files state them, and their place in UTC."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from actors.science.audio_io.recording_time import clocks

AT = datetime(2024, 7, 2, 6, 44, 4)
BERLIN = "Europe/Berlin"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("2024-07-02T06:44:04", AT),
        ("2024-07-02 06:44:04", AT),
        ("2024-07-02T06:44", AT.replace(second=0)),
        (" 2024-07-02T06:44:04Z\r\n", AT.replace(tzinfo=UTC)),
        ("2024-07-02T06:44:04.5Z", AT.replace(microsecond=500_000, tzinfo=UTC)),
        ("2024-07-02T06:44:04.1234567", AT.replace(microsecond=123_456)),
        ("2024-07-02 06:44:04+2:00", AT.replace(tzinfo=timezone(timedelta(hours=2)))),
        ("2024-07-02T06:44:04+0545", AT.replace(tzinfo=timezone(timedelta(hours=5, minutes=45)))),
        ("2024-07-02T06:44:04-03:30", AT.replace(tzinfo=timezone(-timedelta(hours=3.5)))),
        ("2024-07-02 06:44:04 -05", AT.replace(tzinfo=timezone(-timedelta(hours=5)))),
    ],
)
def test_iso_times(text: str, shown: datetime) -> None:
    found = clocks.from_iso(text)
    assert found == shown
    assert found.utcoffset() == shown.utcoffset()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2024",
        "2024-07-02",
        "0000-00-00 00:00:00",
        "2024-07-02T25:00:00",
        "2024-07-02T06:44:04+15:00",
        "2024-07-02T06:44:04+02:75",
        "2024-07-02T06:44:04 Europe",
        "٢٠٢٤-٠٧-٠٢T٠٦:٤٤:٠٤",  # noqa: RUF001
    ],
)
def test_texts_without_a_time(text: str) -> None:
    assert clocks.from_iso(text) is None


@pytest.mark.parametrize(
    ("shown", "time_zone", "at", "zone"),
    [
        (AT, None, AT, "assumed_utc"),
        (AT, BERLIN, AT - timedelta(hours=2), "time_zone"),
        (AT.replace(tzinfo=UTC), BERLIN, AT, "file"),
        # 02:30 occurred twice on 27 October 2024: the first one is summer time.
        (datetime(2024, 10, 27, 2, 30), BERLIN, datetime(2024, 10, 27, 0, 30), "time_zone"),
        # 02:30 did not occur on 31 March 2024: the clock still showed winter time.
        (datetime(2024, 3, 31, 2, 30), BERLIN, datetime(2024, 3, 31, 1, 30), "time_zone"),
    ],
)
def test_places_in_utc(shown: datetime, time_zone: str | None, at: datetime, zone: str) -> None:
    assert clocks.to_utc(shown, time_zone=time_zone) == (at.replace(tzinfo=UTC), zone)


def test_the_ends_of_the_calendar_have_no_place() -> None:
    first = datetime(1, 1, 1)
    assert clocks.to_utc(first, time_zone="Asia/Tokyo") is None
    assert clocks.to_utc(first.replace(tzinfo=timezone(timedelta(hours=1))), time_zone=None) is None
