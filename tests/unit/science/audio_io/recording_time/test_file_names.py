"""Times in the names of recordings, worked out by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.science.audio_io.recording_time import file_names

AT = datetime(2024, 7, 2, 6, 44, 4)


def at_offset(hours: float, at: datetime = AT) -> datetime:
    return at.replace(tzinfo=timezone(timedelta(hours=hours)))


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        # AudioMoth: as it is, triggered, with a prefix, and early ones in hexadecimal.
        ("20240702_064404.WAV", AT),
        ("20240702_064404T.WAV", AT),
        ("MSR01_20240702_064404.WAV", AT),
        ("5C6DA5D1.WAV", datetime(2019, 2, 20, 19, 9, 5, tzinfo=UTC)),
        ("5ec5a158.wav", datetime(2020, 5, 20, 21, 30, tzinfo=UTC)),
        # Wildlife Acoustics: with GPS, with channels, with milliseconds.
        ("SM4_20240702_064404.wav", AT),
        ("SM4_20240702$064404.wav", AT),
        ("ARIZONA-1_0+1_20240702$064404.wav", AT),
        ("2MU01234_20240702_064404_000.wav", AT),
        ("2MU01234_20240702_064404_250.wav", AT.replace(microsecond=250_000)),
        # BAR-LT.
        ("20240702T064404+0200_REC_[-27.3888+152.8808].flac", at_offset(2)),
        ("20240702T064404-0330_Site.flac", at_offset(-3.5)),
        ("20240702T044404Z_Site.flac", at_offset(0, datetime(2024, 7, 2, 4, 44, 4))),
        (
            "S20240702T064404.456+1000_E20240702T074404.456+1000.wav",
            at_offset(10, AT.replace(microsecond=456_000)),
        ),
        # Zoom, Samsung.
        ("240702-064404.WAV", AT),
        ("5678.240702064404.wav", AT),
        ("671879456.240702064404.sud.wav", AT),
        ("PXL_20240702_044404250.mp4", at_offset(0, datetime(2024, 7, 2, 4, 44, 4, 250_000))),
        ("IMG_20240702_064404250.mp4", AT.replace(microsecond=250_000)),
        ("240702_064404.WAV", AT),
        ("240702-064404_Tr1.WAV", AT),
        ("Voice 240702_064404.m4a", AT),
        # Programs, phones and messengers.
        ("20240702_064404.m4a", AT),
        ("Recording_20240702_064404.mp3", AT),
        ("20240702064404.wav", AT),
        ("REC20240702064404.mp3", AT),
        ("2024-07-02T06-44-04Z.flac", at_offset(0)),
        ("2024-07-02T06:44:04+02:00.flac", at_offset(2)),
        ("2024-07-02T06-44-04.123456Z.flac", at_offset(0, AT.replace(microsecond=123_456))),
        ("2024-07-02_06-44-04.ogg", AT),
        ("2024-07-02-06-44-04.ogg", AT),
        ("2024-07-02-06-44-04-UTC.wav", at_offset(0)),
        ("2024-07-02 06.44.04.wav", AT),
        ("2024_07_02_06_44_04.wav", AT),
        ("2024.07.02_06.44.04.wav", AT),
        ("street 20240702_064404+02.wav", at_offset(2)),
        ("20240702_064404-0500.wav", at_offset(-5)),
        ("20240702T064404-05.wav", at_offset(-5)),
        ("WhatsApp Audio 2024-07-02 at 06.44.04.mpeg", AT),
        ("WhatsApp Audio 2024-07-02 at 6.44.04 AM.mpeg", AT),
        ("WhatsApp Audio 2024-07-02 at 6.44.04 PM.mpeg", AT.replace(hour=18)),
        ("WhatsApp Audio 2024-07-02 at 12.00.00 AM.mpeg", datetime(2024, 7, 2)),
        ("2024-07-02-birdnet-06:44:04.wav", AT),
        ("2024-07-02-birdnet-RTSP_1-06:44:04.wav", AT),
        ("Pacific_Koel-76-2024-07-02-birdnet-06:44:04.mp3", AT),
        # The numbers of copies and parts are not offsets or fractions.
        ("20240702_064404-01.wav", AT),
        ("20240702_064404-0001.wav", AT),
        ("20240702_064404_0001.wav", AT),
        ("20240702_064404 (1).wav", AT),
        # The first time counts, and one that does not exist is passed over.
        ("20240702_064404_20240702_074404.wav", AT),
        ("20241302_064404_20240702_064404.wav", AT),
        ("20240229_235959.wav", datetime(2024, 2, 29, 23, 59, 59)),
    ],
)
def test_times_in_names(name: str, shown: datetime) -> None:
    found = file_names.read(name)
    assert found == shown
    assert found.utcoffset() == shown.utcoffset()


@pytest.mark.parametrize(
    "name",
    [
        "recording",
        "street.flac",
        "",
        # A date alone.
        "20240702.wav",
        "2024-07-02.wav",
        "PTT-20240702-WA0001.opus",
        # A date with a number, or with a time to the minute: nothing tells them apart.
        "240702_0001.wav",
        "240702_0644.mp3",
        "20240702_0644.mp3",
        # The day first, or the month.
        "02-07-2024_06-44-04.wav",
        "020724_064404.wav",
        # No such day or time.
        "20230229_064404.wav",
        "20240702_240000.wav",
        "20240702_066004.wav",
        "20240702_064460.wav",
        "2024-07-02 at 13.00.00 PM.m4a",
        # Part of a longer number, and too few digits.
        "120240702_064404.wav",
        "20240702_0644041.wav",
        "20240702_64404.wav",
        # Numbers without a letter are no hexadecimal time, nor are those before the AudioMoth.
        "60012345.wav",
        "2C6DA5D1.WAV",
        "5C6DA5D1.flac",
        "5C6DA5D1F.WAV",
    ],
)
def test_names_that_leave_the_time_open(name: str) -> None:
    assert file_names.read(name) is None


@given(st.text(max_size=200) | st.text("0123456789_-:.TZ+$ APM", max_size=200))
def test_any_name_is_read(name: str) -> None:
    file_names.read(name)


@given(st.datetimes(datetime(1990, 1, 1), datetime(2099, 12, 31)))
def test_what_a_recorder_writes_is_read_back(at: datetime) -> None:
    whole = at.replace(microsecond=0)
    assert file_names.read(f"{at:%Y%m%d_%H%M%S}.WAV") == whole
    assert file_names.read(f"{at:%Y-%m-%dT%H-%M-%S}Z.wav") == whole.replace(tzinfo=UTC)
