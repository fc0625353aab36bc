"""Training of the base types: what it learns from, and that it learns."""

from __future__ import annotations

import numpy as np
import pytest

from actors.science.backbone import RATE_HZ, SHORTEST, Backbone
from actors.science.types import BACKGROUND
from actors.training import tagging
from actors.training.tagging import Examples, Sound
from tests.support import weights

NETWORK = Backbone.from_bytes(weights.file_of(weights.random_state(width=0.4)))


def tone(hz: float, seconds: float = 2.0) -> np.ndarray:
    t = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    return np.asarray(0.2 * np.sin(2 * np.pi * hz * t), dtype=np.float32)


def test_each_column_is_a_type_and_background_is_one() -> None:
    types = tagging.types_of_head()
    assert len(set(types)) == len(types)
    assert BACKGROUND in types
    assert not {"traffic", "human", "nature", "other"} & set(types)


@pytest.mark.parametrize("codec", tagging.CODECS, ids=lambda codec: codec[2])
def test_a_lossy_copy_is_the_same_sound(
    codec: tuple[int, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tagging, "CODECS", (codec,))
    samples = tone(1_000.0)
    found = tagging.through_codec(samples, np.random.default_rng(0))
    assert found.dtype == np.float32
    assert abs(found.size - samples.size) < RATE_HZ // 5
    spectrum = np.abs(np.fft.rfft(found))
    assert spectrum.argmax() * RATE_HZ / found.size == pytest.approx(1_000.0, abs=5.0)


@pytest.mark.parametrize("snr_db", [0.0, 20.0])
def test_a_sound_lies_over_its_bed_by_the_ratio(snr_db: float) -> None:
    rng = np.random.default_rng(0)
    samples, bed = tone(1_000.0), rng.standard_normal(2 * RATE_HZ).astype(np.float32)
    added = tagging.over(samples, bed, snr_db) - samples
    ratio_db = 10 * np.log10(np.square(samples).mean() / np.square(added).mean())
    assert ratio_db == pytest.approx(snr_db, abs=0.1)


def test_copies_are_of_the_sounds_type_and_group_and_long_enough() -> None:
    rng = np.random.default_rng(0)
    sound = Sound("a", "siren", "2", tone(700.0), also=("alarm",))
    beds = [("wind", rng.standard_normal(3 * RATE_HZ).astype(np.float32) * 0.1)]
    found = tagging.examples(NETWORK, [sound], beds, rng, copies=4)
    assert found.types == ["siren"] * 5
    assert found.groups == ["2"] * 5
    assert all(also[0] == "alarm" for also in found.also)
    assert {also[1:] for also in found.also} <= {(), ("wind",)}
    copy, _ = tagging._copy(Sound("b", "siren", "2", tone(700.0, 0.2)), beds, rng)
    assert copy.size >= SHORTEST


def test_the_head_learns_what_tells_types_apart() -> None:
    rng = np.random.default_rng(0)
    directions = {name: rng.standard_normal(NETWORK.n_embedding) for name in ("train", "birds")}
    given = Examples()
    for number in range(60):
        name = ("train", "birds")[number % 2]
        noise = 0.5 * rng.standard_normal(NETWORK.n_embedding)
        given.embeddings.append((directions[name] + noise).astype(np.float32))
        given.types.append(name)
        given.also.append(())
        given.groups.append(str(number % 4))
    header = {"backbone": "random", "backbone_sha256": ""}
    head = tagging.fit(NETWORK, given.where({"0", "1"}), header=header)
    assert tagging.accuracy(head, NETWORK, given.where({"2", "3"})) == 1.0
    # Types without examples keep their tags alone.
    untaught = [head.types.index(name) for name in ("boat", "siren")]
    assert not head.arrays["weights"][untaught].any()
    assert not head.arrays["bias"][untaught].any()
