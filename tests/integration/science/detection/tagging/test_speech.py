"""Detection of speech."""

from __future__ import annotations

import csv
import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.science.audio_io import decode
from actors.science.audio_io.prepare import MonoResampler
from actors.science.detection import inference
from actors.science.detection.tagging import speech
from actors.science.detection.tagging.backbone import RATE_HZ, Array, BackboneNetwork
from tests.support import voices, weights

#: Real recordings of everyday noise beside a checkout; see tests/support/weights.py.
EVERYDAY = Path(__file__).resolve().parents[5].parent / "shared" / "data" / "everyday"

NETWORK = voices.network()
#: A frame is classified together with its neighbours.
BLUR_S = 0.64


def find(samples: Array, backbone: BackboneNetwork = NETWORK) -> speech.Intervals:
    return speech.find(backbone, inference.in_memory(samples), samples.size)


def with_voice(*times: tuple[float, float], seconds: float = 12) -> Array:
    samples = voices.hiss(seconds) + voices.siren(seconds)
    for start_s, end_s in times:
        first = round(start_s * RATE_HZ)
        voice = voices.voice(end_s - start_s)
        samples[first : first + voice.size] += voice
    return samples


def test_a_voice_is_found_with_a_margin_and_a_siren_is_not() -> None:
    found = find(with_voice((2.0, 3.5), (8.0, 10.0)))
    assert len(found) == 2
    for (start_s, end_s), (begins_s, ends_s) in zip(found, [(2.0, 3.5), (8.0, 10.0)], strict=True):
        assert begins_s - speech.MARGIN_S - BLUR_S <= start_s <= begins_s - speech.MARGIN_S
        assert ends_s + speech.MARGIN_S <= end_s <= ends_s + speech.MARGIN_S + BLUR_S
    assert find(with_voice()) == []


@pytest.mark.parametrize("seconds", [0.01, 0.3, 0.99, 1.0, 1.93, 2.5])
def test_a_recording_may_be_short(seconds: float) -> None:
    [(start_s, end_s)] = find(voices.voice(seconds))
    assert start_s <= 0
    assert end_s >= seconds
    assert find(voices.hiss(seconds)) == []


def test_a_recording_is_read_once_and_in_pieces() -> None:
    samples = with_voice((2.0, 4.0))
    reads: list[tuple[int, int]] = []
    told: list[float] = []

    def read(start: int, stop: int) -> Array:
        reads.append((start, stop))
        return inference.in_memory(samples)(start, stop)

    assert speech.find(NETWORK, read, samples.size, on_progress=told.append) == find(samples)
    assert all(0 <= start < stop <= samples.size for start, stop in reads)
    assert max(stop - start for start, stop in reads) <= 2 * RATE_HZ
    assert told == sorted(told)
    assert told[-1] == 1.0


TIMES = st.tuples(st.integers(0, 100), st.integers(1, 20)).map(lambda each: (each[0], sum(each)))


@given(first=st.lists(TIMES), second=st.lists(TIMES))
def test_a_union_covers_the_same_times_and_nothing_overlaps(
    first: list[tuple[float, float]], second: list[tuple[float, float]]
) -> None:
    found = speech.union(first, second)
    for at in np.arange(0.5, 130):
        is_in = any(start_s <= at < end_s for start_s, end_s in (*first, *second))
        assert is_in == any(start_s <= at < end_s for start_s, end_s in found)
    for (_, end_s), (start_s, _) in itertools.pairwise(found):
        assert end_s < start_s


def test_intervals_are_widened_and_joined() -> None:
    assert speech.widened([(4.0, 5.0), (1.0, 2.0), (5.9, 6.0)]) == [(0.5, 2.5), (3.5, 6.5)]


def test_the_published_weights_find_real_speech() -> None:
    """Nearly all recordings of speech are detected, and almost none of the others."""
    network = BackboneNetwork.from_bytes(weights.published())
    if not EVERYDAY.is_dir():
        pytest.skip("the recordings of everyday noise are not beside this checkout")
    human = {"speech", "shouting", "laughter", "crowd", "baby_cry", "children_playing", "music"}
    with (EVERYDAY / "labels.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    spoken = [row["file"] for row in rows if row["noise_type"] == "speech"]
    others = [
        row["file"] for row in rows if not human & {row["noise_type"], *row["other_types"].split()}
    ][::4]
    assert all(share >= 0.9 for share in _shares(network, spoken))
    assert np.mean(_shares(network, others)) < 0.1


def _shares(network: BackboneNetwork, files: list[str]) -> list[float]:
    """Return the fraction of each recording that is classified as speech."""
    shares = []
    for name in files:
        samples = _read(EVERYDAY / "clips" / name)
        seconds = samples.size / RATE_HZ
        found = find(samples, network)
        inside = sum(min(end_s, seconds) - max(start_s, 0.0) for start_s, end_s in found)
        shares.append(inside / seconds)
    return shares


def _read(path: Path) -> Array:
    with path.open("rb") as file, decode.open_recording(file) as decoder:
        used = range(decoder.format.n_channels)
        resampler = MonoResampler(rate_hz=decoder.format.rate_hz, used=used, to_hz=RATE_HZ)
        pieces = [resampler.push(block) for block in decoder.blocks()]
        return np.concatenate([*pieces, resampler.finish()])
