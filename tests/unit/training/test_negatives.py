"""The embeddings that hold new types back: the shipped ones, and their selection."""

from __future__ import annotations

from importlib import resources

import numpy as np

from actors.science.detection.tagging import tagger
from actors.training import negatives
from actors.training.negatives import Negatives
from actors.training.shipped_model import base_type_examples
from actors.training.shipped_model.base_type_examples import EmbeddedSounds


def given(counts: dict[str, int]) -> EmbeddedSounds:
    found = EmbeddedSounds()
    for name, count in counts.items():
        for number in range(count):
            found.embeddings.append(np.full(4, number, dtype=np.float32))
            found.types.append((name,) if name else ())
            found.also.append(("rain", "not a column") if name == "wind" else ())
            found.groups.append("1")
    return found


def test_the_shipped_ones_fit_the_shipped_base_types() -> None:
    found, head = negatives.shipped(), tagger.shipped_head()
    assert found.types == head.types
    assert found.backbone_sha256 == head.header["backbone_sha256"]
    assert found.embeddings.shape == (len(found.labels), head.arrays["mean"].size)
    assert np.isfinite(found.embeddings).all()
    counts = np.bincount(found.labels, minlength=len(found.types) + 1)
    assert counts[-1] == (~found.is_sound).sum() == base_type_examples.OF_BACKGROUND
    assert (counts[counts > 0] >= 6).all()
    sounds = np.flatnonzero(found.is_sound)
    assert found.is_right[sounds, found.labels[sounds]].all()
    assert not found.is_right[~found.is_sound].any()
    file = resources.files("actors.science") / "model" / negatives.FILE_NAME
    assert len(file.read_bytes()) < 1_000_000


def test_a_few_of_each_type_are_chosen_from_first_to_last() -> None:
    types = ("birds", "rain", "wind")
    counts = {"birds": 60, "wind": 3, "": 100}
    found = base_type_examples.choose_negatives(given(counts), types, backbone_sha256="ab")
    assert np.bincount(found.labels).tolist() == [12, 0, 3, 40]
    birds = found.embeddings[found.labels == 0, 0]
    assert (birds.min(), birds.max()) == (0, 59)
    assert len(set(birds.tolist())) == 12
    # Rain is correct in each recording of wind.
    assert found.is_right[found.labels == 2].tolist() == [[False, True, True]] * 3


def test_they_survive_their_file_and_fit_other_columns() -> None:
    found = base_type_examples.choose_negatives(
        given({"wind": 3}), ("rain", "wind"), backbone_sha256="ab"
    )
    again = Negatives.from_bytes(found.to_bytes())
    assert again.to_bytes() == found.to_bytes()
    assert (again.types, again.backbone_sha256) == (("rain", "wind"), "ab")
    assert again.right_among(["wind", "ours"]).tolist() == [[True, False]] * 3
    assert len(again.where(np.array([True, False, True])).labels) == 2
