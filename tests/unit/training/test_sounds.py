"""Sounds to learn from: copies, pairs and pieces match their descriptions."""

from __future__ import annotations

import numpy as np
import pytest

from actors.science.detection.tagging.backbone import RATE_HZ, SHORTEST
from actors.science.detection.tagging.tagger import PIECE
from actors.training import sounds
from actors.training.shipped_model import base_type_examples, codecs
from actors.training.sounds import Sound


def tone(hz: float, seconds: float = 2.0) -> np.ndarray:
    t = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    return np.asarray(0.2 * np.sin(2 * np.pi * hz * t), dtype=np.float32)


def noise(seconds: float) -> np.ndarray:
    drawn = np.random.default_rng(0).standard_normal(int(seconds * RATE_HZ))
    return np.asarray(0.1 * drawn, dtype=np.float32)


def line_of(samples: np.ndarray, hz: float) -> float:
    """Return the amplitude of a tone in samples."""
    t = np.arange(samples.size) / RATE_HZ
    return float(2 * np.abs(np.mean(samples * np.exp(-2j * np.pi * hz * t))))


@pytest.mark.parametrize("name", codecs.CODECS)
def test_a_lossy_copy_is_the_same_sound(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codecs, "TRAINED", (name,))
    samples = tone(1_000.0)
    found = codecs.drawn(samples, np.random.default_rng(0))
    assert found.dtype == np.float32
    assert abs(found.size - samples.size) < RATE_HZ // 5
    spectrum = np.abs(np.fft.rfft(found))
    assert spectrum.argmax() * RATE_HZ / found.size == pytest.approx(1_000.0, abs=5.0)


@pytest.mark.parametrize("snr_db", [0.0, 20.0])
def test_a_sound_lies_over_its_bed_by_the_ratio(snr_db: float) -> None:
    samples, bed = tone(1_000.0), noise(2.0)
    added = sounds.over(samples, bed, snr_db) - samples
    ratio_db = 10 * np.log10(np.square(samples).mean() / np.square(added).mean())
    assert ratio_db == pytest.approx(snr_db, abs=0.1)


def test_a_copy_is_of_its_sounds_type_and_group_and_long_enough() -> None:
    rng = np.random.default_rng(0)
    bed = Sound("wind", ("wind",), "1", noise(3.0))
    short = Sound("a", ("siren",), "2", tone(700.0, 0.2), also=("alarm",))
    found = [sounds.copy(short, [bed], rng) for _ in range(20)]
    assert {(each.types, each.group) for each in found} == {(("siren",), "2")}
    assert {each.also for each in found} == {("alarm",), ("alarm", "wind")}
    assert all(each.samples.size >= SHORTEST for each in found)


def test_a_pair_holds_both_sounds_one_at_most_6_db_louder() -> None:
    rng = np.random.default_rng(0)
    given = [Sound("a", ("siren",), "1", tone(700.0)), Sound("b", ("bell",), "1", tone(1_500.0))]
    pairs = [found for _ in range(20) if (found := base_type_examples.pair(given, rng)) is not None]
    assert pairs
    for found in pairs:
        assert sorted(found.types) == ["bell", "siren"]
        ratio_db = 20 * np.log10(line_of(found.samples, 700.0) / line_of(found.samples, 1_500.0))
        assert abs(ratio_db) <= base_type_examples.PAIR_DB + 4.0


def test_two_sounds_of_one_type_are_no_pair() -> None:
    rng = np.random.default_rng(0)
    given = [
        Sound("a", ("cough_sneeze",), "1", tone(700.0)),
        Sound("b", ("sneeze",), "1", tone(900.0)),
    ]
    assert all(base_type_examples.pair(given, rng) is None for _ in range(8))


def test_pieces_of_a_bed_are_all_of_it_but_a_rest() -> None:
    bed = Sound("wind", ("wind",), "1", noise(40.0))
    found = list(base_type_examples.pieces(bed, np.random.default_rng(0)))
    joined = np.concatenate([each.samples for each in found])
    np.testing.assert_array_equal(joined, bed.samples[: joined.size])
    assert bed.samples.size - joined.size < SHORTEST
    assert all(0 < each.samples.size <= PIECE for each in found)
    assert {(each.types, each.group) for each in found} == {(("wind",), "1")}
