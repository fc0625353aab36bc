"""Files of several tracks: which one is analysed, and files without any audio."""

from __future__ import annotations

import io

import av
import numpy as np
import pytest
from av.stream import Disposition

from actors.science.audio_io.decode import open_recording
from actors.science.errors import EmptyRecording, Undecodable
from tests.support.shapes import pictures

RATE_HZ = 48_000


def tracks(kind: str, levels: list[float], *, default: int | None) -> bytes:
    """Return a file with tracks of constant samples, one of which may be the default."""
    file = io.BytesIO()
    with av.open(file, "w", format=kind) as container:
        streams = [container.add_stream("flac", rate=RATE_HZ, layout="mono") for _ in levels]
        for index, stream in enumerate(streams):
            assert isinstance(stream, av.AudioStream)
            stream.disposition = Disposition.default if index == default else Disposition(0)
        for stream, level in zip(streams, levels, strict=True):
            assert isinstance(stream, av.AudioStream)
            samples = np.full((1, RATE_HZ), level * 32_767, dtype=np.int16)
            frame = av.AudioFrame.from_ndarray(samples, "s16", "mono")
            frame.sample_rate, frame.pts = RATE_HZ, 0
            resampler = av.AudioResampler("s16", "mono", RATE_HZ, frame_size=4_608)
            for part in [*resampler.resample(frame), *resampler.resample(None), None]:
                container.mux(stream.encode(part))
    return file.getvalue()


@pytest.mark.parametrize("kind", ["matroska", "mp4"])
@pytest.mark.parametrize(("default", "wanted"), [(0, 0.1), (1, 0.5), (None, 0.1)])
def test_the_default_track_is_analysed(kind: str, default: int | None, wanted: float) -> None:
    with open_recording(io.BytesIO(tracks(kind, [0.1, 0.5], default=default))) as decoder:
        samples = np.concatenate(list(decoder.blocks()))
    assert float(samples.max()) == pytest.approx(wanted, abs=1e-3)
    assert len(samples) == RATE_HZ


@pytest.mark.parametrize("kind", ["mp4", "matroska", "mpegts", "avi"])
def test_a_file_without_audio_is_refused(kind: str) -> None:
    with (
        pytest.raises((Undecodable, EmptyRecording)),
        open_recording(io.BytesIO(pictures(kind, seconds=1.0))),
    ):
        pass
