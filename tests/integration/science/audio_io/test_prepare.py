"""The split step, and the whole path from a recording to its events and its plot."""

from __future__ import annotations

import io
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from actors.science import synth
from actors.science.audio_io.decode import open_recording
from actors.science.audio_io.prepare import (
    PCM_BYTES,
    Loudest,
    Prepared,
    float_to_pcm,
    pcm_to_float,
    prepare,
)
from actors.science.detection import classifier, inference
from actors.science.detection.classifier import Classifier
from actors.science.errors import EmptyRecording
from actors.science.plotting import plots
from actors.science.types import Event
from tests.support.sounds import encoded, noise


def prepared(data: bytes) -> tuple[Prepared, NDArray[np.float32]]:
    pcm = io.BytesIO()
    with open_recording(io.BytesIO(data)) as decoder:
        result = prepare(decoder, write=pcm.write)
    assert len(pcm.getvalue()) == result.grid.n_samples * PCM_BYTES
    return result, pcm_to_float(pcm.getvalue())


#: Made once, since it takes longer than to analyse it.
demonstration = cache(synth.demo_recording)


def heard(data: bytes, *, model: Classifier | None = None) -> list[Event]:
    result, samples = prepared(data)
    chosen = model or classifier.shipped()
    return inference.detect(chosen, samples, levels=result.levels, grid=result.grid)


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 22_050, 44_100, 48_000])
def test_a_tone_keeps_its_pitch_level_and_length(rate_hz: int) -> None:
    n_frames = 3 * rate_hz + 11
    tone = 0.5 * np.sin(2 * np.pi * 1_000 * np.arange(n_frames) / rate_hz)
    data = encoded(tone[:, None], rate_hz=rate_hz, kind="WAV", subtype="FLOAT")
    result, samples = prepared(data)
    assert result.duration_s == pytest.approx(n_frames / rate_hz)
    assert result.grid.n_samples == pytest.approx(n_frames * 16_000 / rate_hz, abs=1)
    spectrum = np.abs(np.fft.rfft(samples[8_000:24_000]))
    assert spectrum.argmax() == 1_000
    assert float(np.sqrt((samples[8_000:24_000] ** 2).mean())) == pytest.approx(0.3536, rel=0.002)
    assert result.levels.laeq_db(1, 2) == pytest.approx(-9.03, abs=0.02)


def test_16_khz_audio_is_kept_bit_by_bit() -> None:
    sound = noise(40_000)
    _, samples = prepared(encoded(sound, rate_hz=16_000, kind="WAV", subtype="PCM_16"))
    stored = np.frombuffer(float_to_pcm(samples), dtype="<i2")
    np.testing.assert_array_equal(stored / 32_768, samples)
    np.testing.assert_allclose(samples, sound[:, 0], atol=2**-15)


@given(
    n_frames=st.integers(1, 3_000),
    n_channels=st.integers(1, 3),
    cuts=st.lists(st.integers(0, 3_000), max_size=5),
    at=st.integers(0, 2_999),
)
def test_the_loudest_frame_is_found_whatever_the_blocks(
    n_frames: int, n_channels: int, cuts: list[int], at: int
) -> None:
    """The first one of several equally loud frames."""
    sound = noise(n_frames, n_channels=n_channels)
    sound[at % n_frames :: 700, -1] = -2.0
    loudest = Loudest(range(n_channels))
    for block in np.split(sound.astype(np.float32), sorted(cuts)):
        loudest.push(block)
    assert loudest.frame == at % n_frames


def test_a_recording_that_begins_earlier_has_the_same_events() -> None:
    """The shift is any number of the recording's own samples, and may be fractional at 16 kHz."""
    rate_hz = 44_100
    sound, _ = demonstration(3)
    sound = sound[: 20 * rate_hz, None]
    assert rate_hz == synth.DEMO_RATE_HZ
    late = heard(encoded(sound[16_000:], rate_hz=rate_hz, kind="FLAC"))
    assert len(late) >= 2
    for lead in (1, 799, 15_999):
        early = heard(encoded(sound[16_000 - lead :], rate_hz=rate_hz, kind="FLAC"))
        assert [event.noise_type for event in early] == [event.noise_type for event in late]
        for ours, theirs in zip(early, late, strict=True):
            assert ours.start_s - lead / rate_hz == pytest.approx(theirs.start_s, abs=0.002)
            assert ours.end_s - lead / rate_hz == pytest.approx(theirs.end_s, abs=0.002)


def test_what_is_too_loud_is_clipped() -> None:
    pcm = pcm_to_float(float_to_pcm(np.array([2.0, -2.0, 1.0, -1.0], dtype=np.float32)))
    np.testing.assert_allclose(pcm, [32_767 / 32_768, -1, 32_767 / 32_768, -1])


def test_progress_is_told_and_may_stop_the_work() -> None:
    data = encoded(noise(200_000), rate_hz=16_000, kind="WAV")
    told: list[float] = []
    with open_recording(io.BytesIO(data)) as decoder:
        prepare(decoder, write=lambda _: None, on_progress=told.append)
    assert told == sorted(told)
    assert told[-1] == pytest.approx(12.5)

    def stop(_: float) -> None:
        raise TimeoutError

    with pytest.raises(TimeoutError), open_recording(io.BytesIO(data)) as decoder:
        prepare(decoder, write=lambda _: None, on_progress=stop)


def test_what_is_missing_is_handed_on() -> None:
    data = encoded(noise(160_000), rate_hz=16_000, kind="WAV")
    result, _ = prepared(data[: len(data) // 2])
    assert result.missing_s == pytest.approx(5.0, abs=0.01)


def test_too_little_for_one_sample_is_an_empty_recording() -> None:
    data = encoded(np.zeros((1, 1)), rate_hz=768_000, kind="WAV")
    with pytest.raises(EmptyRecording):
        prepared(data)


#: The model alone, and for the recording of `clamor demo` also its gate, which rejects some quiet
#: sounds of the others (docs/model.md).
@pytest.mark.parametrize(
    ("seed", "has_gate"), [(1, False), (7, False), (7, True), (101, False), (102, False)]
)
def test_the_demonstration_is_heard(seed: int, has_gate: bool) -> None:
    samples, truth = demonstration(seed)
    assert samples.dtype == np.float32
    assert samples.size == pytest.approx(30 * synth.DEMO_RATE_HZ)
    assert float(np.abs(samples).max()) <= 1.0
    model = classifier.shipped() if has_gate else classifier.packaged(classifier.MODEL_FILE)
    found = heard(encoded(samples[:, None], rate_hz=synth.DEMO_RATE_HZ, kind="WAV"), model=model)
    for start_s, end_s, noise_type in truth:
        inside = [
            min(event.end_s, end_s) - max(event.start_s, start_s)
            for event in found
            if event.noise_type == noise_type
        ]
        assert max(inside, default=0.0) > 0.5 * (end_s - start_s), (noise_type, found)
    assert len(found) <= len(truth) + 2


@pytest.mark.parametrize("n_samples", [1, 7_999, 8_000, 23_999, 160_000])
def test_silence_of_any_length_has_no_events(n_samples: int) -> None:
    assert heard(encoded(np.zeros((n_samples, 1)), rate_hz=16_000, kind="WAV")) == []


def test_the_demonstration_is_the_same_for_a_seed() -> None:
    first, truth = demonstration(3)
    again, same = synth.demo_recording(3)
    np.testing.assert_array_equal(first, again)
    assert truth == same
    assert not np.array_equal(first, demonstration(1)[0])


@pytest.mark.parametrize("name", sorted(synth.SOUNDS))
@pytest.mark.parametrize("rate_hz", [16_000, 44_100])
def test_synthesised_sounds_are_sound(name: str, rate_hz: int) -> None:
    for seed in range(4):
        sound = synth.SOUNDS[name](np.random.default_rng(seed), rate_hz, rate_hz)
        assert sound.shape == (rate_hz,)
        assert sound.dtype == np.float32
        assert float(np.sqrt((sound**2).mean())) == pytest.approx(1.0, rel=1e-3)


@pytest.mark.parametrize("n_samples", [1, 4_000, 160_000])
def test_a_picture_is_drawn_of_any_length(n_samples: int) -> None:
    data = encoded(noise(n_samples), rate_hz=16_000, kind="WAV")
    event = Event(0.0, n_samples / 16_000, "rain", 0.5, None, None)
    assert plots.draw(io.BytesIO(data), [event], title="A title").startswith(b"\x89PNG")


def test_a_picture_is_drawn_without_an_event() -> None:
    data = encoded(noise(16_000), rate_hz=16_000, kind="WAV")
    assert plots.draw(io.BytesIO(data), [], title="A title").startswith(b"\x89PNG")
