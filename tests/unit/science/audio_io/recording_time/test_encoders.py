"""Metadata as the libraries of others write them, and the names that the database knows."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

import av
import numpy as np
import pytest
import soundfile

from actors.science.audio_io.recording_time import clocks, finder
from db.tables.sessions import RECORDED_AT_ORIGINS, RECORDED_AT_ZONES
from tests.support.recorder_files import RATE_HZ, found

COMMENT = "Recorded at 06:44:04 02/07/2024 (UTC+2) by AudioMoth 24F3190361DA3578 at medium gain"
AT = datetime(2024, 7, 2, 4, 44, 4, tzinfo=UTC)
SILENCE = np.zeros(RATE_HZ, np.float32)


def test_the_database_knows_all_origins_and_zones() -> None:
    assert get_args(finder.Origin) == RECORDED_AT_ORIGINS
    assert set(get_args(clocks.Zone)) == set(RECORDED_AT_ZONES)


@pytest.mark.parametrize("kind", ["WAV", "RF64", "AIFF", "FLAC", "OGG"])
@pytest.mark.parametrize("field", ["comment", "date"])
def test_libsndfile(kind: str, field: str) -> None:
    file = io.BytesIO()
    with soundfile.SoundFile(file, "w", RATE_HZ, 1, format=kind) as written:
        setattr(written, field, COMMENT if field == "comment" else "2024-07-02T06:44:04+02:00")
        written.write(SILENCE)
    time = found(file.getvalue(), kind.lower())
    # A WAVE file has its date in ICRD, which is a date by definition.
    if field == "date" and kind in ("WAV", "RF64", "AIFF"):
        assert time is None
    else:
        assert time is not None
        assert (time.at, time.origin) == (AT, "comment" if field == "comment" else "tag")


@pytest.mark.parametrize(
    ("extension", "codec", "container", "tags", "origin"),
    [
        ("m4a", "aac", "mp4", {"creation_time": "2024-07-02T04:44:04Z"}, "creation_time"),
        ("m4a", "aac", "mp4", {"date": "2024-07-02T06:44:04+02:00"}, "tag"),
        ("m4a", "aac", "mp4", {"comment": COMMENT}, "comment"),
        ("mp3", "mp3", "mp3", {"date": "2024-07-02T06:44:04+02:00"}, "tag"),
        ("mp3", "mp3", "mp3", {"comment": COMMENT}, "comment"),
        ("opus", "libopus", "ogg", {"date": "2024-07-02T06:44:04+02:00"}, "tag"),
        ("wav", "pcm_s16le", "wav", {"comment": COMMENT}, "comment"),
        ("mkv", "flac", "matroska", {"creation_time": "2024-07-02T04:44:04Z"}, "creation_time"),
        ("mkv", "flac", "matroska", {"comment": COMMENT}, "comment"),
        ("webm", "libopus", "webm", {"DATE_RECORDED": "2024-07-02 06:44:04+02:00"}, "tag"),
        ("asf", "pcm_s16le", "asf", {"creation_time": "2024-07-02T04:44:04Z"}, "creation_time"),
    ],
)
def test_ffmpeg(
    tmp_path: Path,
    extension: str,
    codec: str,
    container: str,
    tags: dict[str, str],
    origin: str,
) -> None:
    path = tmp_path / f"a.{extension}"
    with av.open(str(path), "w") as output:
        output.metadata.update(tags)
        stream = output.add_stream(codec, rate=48_000, layout="mono")
        assert isinstance(stream, av.AudioStream)
        silence = np.zeros((1, 960), np.int16)
        frame = av.AudioFrame.from_ndarray(silence, format="s16", layout="mono")
        frame.rate = 48_000
        resampler = av.AudioResampler(format=stream.format, layout="mono", rate=48_000)
        for each in resampler.resample(frame):
            output.mux(stream.encode(each))
        output.mux(stream.encode(None))
    time = found(path.read_bytes(), container)
    assert time is not None
    assert (time.at, time.origin, time.zone) == (AT, origin, "file")
