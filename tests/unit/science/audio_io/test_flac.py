"""Sequential writing of FLAC."""

from __future__ import annotations

import io
from typing import cast

import numpy as np
import pytest
import soundfile

from actors.science.audio_io import clips, flac

NOISE = np.random.default_rng(3).uniform(-1, 1, (100_000, 2)).astype(np.float32)
#: One step of 24 bits.
STEP = 2.0**-23


class Pipe(io.BytesIO):
    """Accepts bytes only in order."""

    def seek(self, *_: int) -> int:
        raise io.UnsupportedOperation("seek")


def written(n_frames: int = len(NOISE), *, rate_hz: int = 48_000) -> bytes:
    pipe = Pipe()
    blocks = (NOISE[at : at + 7_001] for at in range(0, len(NOISE), 7_001))
    flac.write(blocks, pipe, rate_hz=rate_hz, n_channels=2, n_frames=n_frames)
    return pipe.getvalue()


@pytest.mark.parametrize("rate_hz", [8_000, 44_100, 192_000, 384_000])
def test_its_header_has_the_length_and_its_samples_are_those_that_were_written(
    rate_hz: int,
) -> None:
    content = written(rate_hz=rate_hz)
    told = soundfile.info(io.BytesIO(content))
    assert (told.frames, told.samplerate, told.channels) == (len(NOISE), rate_hz, 2)
    assert (told.format, told.subtype) == ("FLAC", "PCM_24")
    samples, _ = soundfile.read(io.BytesIO(content), dtype="float32")
    assert np.abs(samples - NOISE).max() <= STEP


@pytest.mark.parametrize(
    ("rate_hz", "writable_hz"),
    [(8_001, 8_001), (65_535, 65_535), (96_001, 96_000), (500_000, 500_000), (768_000, 384_000)],
)
def test_a_rate_that_flac_cannot_have_is_lowered(rate_hz: int, writable_hz: int) -> None:
    assert flac.writable_hz(rate_hz) == writable_hz
    clip = clips.to_flac(NOISE, rate_hz, used=())
    found = soundfile.info(io.BytesIO(clip))
    assert found.samplerate == writable_hz
    assert found.duration == pytest.approx(len(NOISE) / rate_hz, rel=1e-3)


def test_a_clip_of_many_channels_has_those_that_were_analysed() -> None:
    numbers = np.tile(np.arange(10) / 16, (100, 1)).astype(np.float32)
    for used, kept in (
        ([], [0, 1, 2, 3, 4, 5, 6, 7]),
        ([8], [8, 0, 1, 2, 3, 4, 5, 6]),
        ([0, 8, 9], [0, 8, 9, 1, 2, 3, 4, 5]),
        (range(10), [0, 1, 2, 3, 4, 5, 6, 7]),
    ):
        clip = clips.to_flac(numbers, 8_000, used=used)
        samples, _ = soundfile.read(io.BytesIO(clip))
        assert (samples[0] * 16).round().tolist() == kept
    # With eight or fewer, each keeps its place.
    samples, _ = soundfile.read(io.BytesIO(clips.to_flac(numbers[:, :8], 8_000, used=[7])))
    np.testing.assert_array_equal(samples, numbers[:, :8])


def test_what_is_louder_than_full_scale_is_clipped() -> None:
    pipe = Pipe()
    loud = np.array([[2.0], [-2.0], [0.5]], dtype=np.float32)
    flac.write([loud], pipe, rate_hz=8_000, n_channels=1, n_frames=3)
    samples, _ = soundfile.read(io.BytesIO(pipe.getvalue()))
    assert samples == pytest.approx([1.0, -1.0, 0.5], abs=2 * STEP)


@pytest.mark.parametrize("n_frames", [len(NOISE) - 1, len(NOISE) + 1])
def test_another_length_than_was_announced_is_an_error(n_frames: int) -> None:
    with pytest.raises(RuntimeError, match="100000 frames"):
        written(n_frames)


def test_an_error_of_the_file_is_raised() -> None:
    class Full(io.BytesIO):
        def write(self, data: object) -> int:
            if self.tell() > 100_000:
                raise OSError(28, "full")
            return super().write(cast(bytes, data))

    n_taken = 0

    def blocks() -> object:
        nonlocal n_taken
        for at in range(0, len(NOISE), 5_000):
            n_taken += 1
            yield NOISE[at : at + 5_000]

    with pytest.raises(OSError, match="full"):
        flac.write(blocks(), Full(), rate_hz=48_000, n_channels=2, n_frames=len(NOISE))  # type: ignore[arg-type]
    assert n_taken < 20
