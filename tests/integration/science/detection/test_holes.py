"""Recordings with holes: steady sound has no events around them, and events end at them."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from actors.science.detection import classifier, inference
from actors.science.detection.chunks import RATE_HZ, STEP_S, Grid, plan_spans
from actors.science.detection.filling import filled
from actors.science.detection.holes import Interval, frames_within, outside
from actors.science.detection.second_opinion import SecondOpinion
from actors.science.detection.tagging import tagger
from actors.science.detection.tagging.backbone import RATE_HZ as WIDE_RATE_HZ
from actors.science.detection.tagging.backbone import BackboneNetwork
from actors.science.detection.tagging.tagger import Tagger
from actors.science.levels.meter import LevelMeter
from actors.science.types import Event, Hole, HoleKind
from tests.support import weights

Samples = NDArray[np.float32]

both = pytest.mark.parametrize("beside", [False, True], ids=["alone", "with the backbone"])

#: A real dog, if the recordings of former reports are beside the checkout.
DOG = weights.PUBLISHED.parents[1] / "cases" / "inverted-stereo" / "dog_mono.flac"

DURATION_S = 30


@cache
def published_tagger() -> Tagger:
    return Tagger(BackboneNetwork.from_bytes(weights.published()), tagger.shipped_head())


def steady(exponent: float, *, rms: float = 0.003) -> Samples:
    """Return half a minute of noise with a power spectrum of this exponent, at 32 kHz."""
    n_samples = DURATION_S * WIDE_RATE_HZ
    spectrum = np.fft.rfft(np.random.default_rng(5).standard_normal(n_samples))
    spectrum[1:] *= np.arange(1, spectrum.size) ** (-exponent / 2)
    spectrum[0] = 0.0
    noise = np.fft.irfft(spectrum, n_samples)
    return np.asarray(rms * noise / noise.std(), dtype=np.float32)


def hear(wide: Samples, holes: list[Interval], *, beside: bool = False) -> list[Event]:
    """Return the events of a recording at 32 kHz with zeros in its holes, as in the pipeline."""
    wide = wide.copy()
    for start_s, end_s in holes:
        wide[round(start_s * WIDE_RATE_HZ) : round(end_s * WIDE_RATE_HZ)] = 0.0
    narrow = soxr.resample(wide, WIDE_RATE_HZ, RATE_HZ).astype(np.float32)
    meter = LevelMeter(rate_hz=WIDE_RATE_HZ, n_channels=1)
    meter.holes = [
        Hole(round(start_s * WIDE_RATE_HZ), round(end_s * WIDE_RATE_HZ), HoleKind.GAP)
        for start_s, end_s in holes
    ]
    meter.push(wide[:, None])
    model = classifier.shipped()
    grid = Grid.hung_on(int(np.abs(wide).argmax()) / WIDE_RATE_HZ, n_samples=narrow.size)
    in_memory = inference.in_memory
    read = filled(in_memory(narrow), holes, n_samples=narrow.size, rate_hz=RATE_HZ)
    opinion = None
    if beside:
        read_wide = filled(in_memory(wide), holes, n_samples=wide.size, rate_hz=WIDE_RATE_HZ)
        opinion = SecondOpinion(published_tagger(), read_wide, wide.size)
    scores = [
        inference.score_span(model, read, span.start, span.stop, grid=grid)
        for span in plan_spans(grid.length)
    ]
    return inference.find_events(
        model,
        np.concatenate(scores),
        read=read,
        grid=grid,
        levels=meter.finish(),
        opinion=opinion,
        holes=holes,
    )


@both
@pytest.mark.parametrize("exponent", [0.0, 1.0], ids=["white", "pink"])
@pytest.mark.parametrize(
    "holes",
    [
        [(8.0, 9.0)],
        [(10.0, 13.04)],
        [(10.0, 15.0)],
        [(8.02, 20.07)],
        [(0.0, 5.0)],
        [(0.0, 10.013)],
        [(19.0, 30.0)],
        [(2.0, 9.0), (9.0, 12.0), (13.0, 25.0)],
    ],
    ids=str,
)
def test_steady_noise_has_no_events_around_holes(
    holes: list[Interval], exponent: float, *, beside: bool
) -> None:
    assert hear(steady(exponent), holes, beside=beside) == []


@both
@pytest.mark.parametrize(
    "holes",
    [
        [(2.0, 12.0), (17.0, 26.0)],
        [(0.0, 13.5)],
        [(1.0, 4.0), (5.0, 8.0), (9.0, 13.8), (15.2, 29.0)],
    ],
    ids=str,
)
def test_a_dog_between_holes_is_found_at_its_time(holes: list[Interval], *, beside: bool) -> None:
    if not DOG.is_file():
        pytest.skip(f"{DOG} is not beside this checkout")
    dog, rate_hz = soundfile.read(DOG, dtype="float32")
    dog = soxr.resample(dog, rate_hz, WIDE_RATE_HZ)[: 5 * WIDE_RATE_HZ]
    sound = steady(0.0, rms=0.001)
    sound[14 * WIDE_RATE_HZ : 14 * WIDE_RATE_HZ + dog.size] += 0.3 * dog
    [wanted] = [e for e in hear(sound, [], beside=beside) if e.start_s < 15.0]
    [found] = [e for e in hear(sound, holes, beside=beside) if e.start_s < 15.0]
    assert (wanted.noise_type, found.noise_type) == ("dog_bark", "dog_bark")
    assert found.start_s == pytest.approx(wanted.start_s, abs=0.15)
    assert found.end_s == pytest.approx(wanted.end_s, abs=0.15)


def test_a_sound_that_a_hole_interrupts_ends_at_it_and_begins_after_it() -> None:
    time_s = np.arange(DURATION_S * WIDE_RATE_HZ) / WIDE_RATE_HZ
    is_on = (time_s >= 8.0) & (time_s < 22.0)
    sound = steady(0.0, rms=0.001) + np.where(is_on, 0.1 * np.sin(8_000 * time_s), 0.0)
    holes = [(12.03, 18.06)]
    events = hear(sound.astype(np.float32), holes)
    times = [(event.start_s, event.end_s) for event in events]
    assert min(start_s for start_s, _ in times) == pytest.approx(8.0, abs=0.3)
    assert max(end_s for _, end_s in times) == pytest.approx(22.0, abs=0.3)
    assert all(end_s <= 12.03 or start_s >= 18.06 for start_s, end_s in times)
    assert any(end_s == 12.03 for _, end_s in times)
    assert any(start_s == 18.06 for start_s, _ in times)


@given(
    hole=st.tuples(st.floats(0, 9), st.floats(0.001, 5)).map(lambda each: (each[0], sum(each))),
    lead_s=st.sampled_from([0.0, 0.05, 0.1234]),
)
def test_frames_within_a_hole_hold_nothing_else(hole: Interval, lead_s: float) -> None:
    is_within = frames_within([hole], n_steps=100, lead_s=lead_s)
    starts_s = np.arange(100) * STEP_S - lead_s
    ends_s = starts_s + STEP_S
    assert (starts_s[is_within] >= hole[0] - 1e-6).all()
    assert (ends_s[is_within] <= hole[1] + 1e-6).all()
    is_clear = (starts_s >= hole[0] + 1e-6) & (ends_s <= hole[1] - 1e-6)
    assert is_within[is_clear].all()
    assert not frames_within([hole], n_steps=100, lead_s=lead_s, least_s=6.0).any()


@pytest.mark.parametrize(
    ("event", "wanted"),
    [
        ((0.0, 1.0), (0.0, 1.0)),
        ((0.0, 2.5), (0.0, 2.0)),
        ((2.5, 6.0), (3.0, 6.0)),
        ((2.5, 7.5), (3.0, 7.0)),
        ((1.0, 4.0), (1.0, 4.0)),
        ((3.0, 7.0), (3.0, 7.0)),
        ((2.2, 2.8), None),
        ((2.0, 3.0), None),
    ],
)
def test_an_event_ends_at_the_edge_of_a_hole(event: Interval, wanted: Interval | None) -> None:
    found = outside(Event(*event, "siren", 0.9, None, None), [(2.0, 3.0), (7.0, 9.0)])
    if wanted is None:
        assert found.end_s <= found.start_s
    else:
        assert (found.start_s, found.end_s) == wanted


def pure_tone(hole: Interval) -> list[Event]:
    time_s = np.arange(DURATION_S * WIDE_RATE_HZ) / WIDE_RATE_HZ
    is_on = (time_s >= 8.0) & (time_s < 16.0)
    sound = steady(0.0, rms=0.001) + np.where(is_on, 0.1 * np.sin(8_000 * time_s), 0.0)
    return hear(sound.astype(np.float32), [hole])


@pytest.mark.parametrize("start_s", [11.0, 11.03, 11.08])
def test_only_a_short_hole_is_part_of_an_event(start_s: float) -> None:
    short, long = (start_s, start_s + 0.2), (start_s, start_s + 0.6)
    assert [e for e in pure_tone(short) if e.start_s < short[0] and e.end_s > short[1]]
    assert not [e for e in pure_tone(long) if e.start_s < long[1] and e.end_s > long[0]]
