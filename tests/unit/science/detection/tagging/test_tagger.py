"""The base types by the backbone's embedding."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.science.detection.tagging.backbone import RATE_HZ, SHORTEST, BackboneNetwork
from actors.science.detection.tagging.tagger import PIECE, Head, Tagger, of_types, pieces_of
from actors.science.errors import ModelError
from tests.support import weights

NETWORK = BackboneNetwork.from_bytes(weights.file_of(weights.random_state(width=0.4)))
HEAD = weights.random_head()


def test_the_file_gives_the_same_head() -> None:
    data = HEAD.to_bytes()
    again = Head.from_bytes(data)
    assert again.to_bytes() == data
    assert (again.types, again.header) == (HEAD.types, HEAD.header)
    embeddings = np.random.default_rng(0).normal(size=(3, NETWORK.n_embedding)).astype(np.float32)
    tags = NETWORK.tags(embeddings)
    np.testing.assert_array_equal(again.logits(embeddings, tags), HEAD.logits(embeddings, tags))


@pytest.mark.parametrize("cut", [0, 100, 5_000])
def test_a_damaged_file_is_refused(cut: int) -> None:
    with pytest.raises(ModelError):
        Head.from_bytes(HEAD.to_bytes()[:cut])


def test_each_type_has_a_probability_of_its_own() -> None:
    sound = np.random.default_rng(1).normal(size=2 * RATE_HZ).astype(np.float32) * 0.1
    embeddings = np.stack([NETWORK.embed(sound), NETWORK.embed(sound[:RATE_HZ])])
    found = Tagger(NETWORK, HEAD).probabilities(embeddings)
    assert found.shape == (len(HEAD.types),)
    assert ((found > 0) & (found < 1)).all()
    # An additional type does not affect the others.
    kept = slice(0, 5)
    arrays = dict(HEAD.arrays) | {
        name: HEAD.arrays[name][kept] for name in ("prior", "scale", "bias", "weights")
    }
    fewer = Tagger(NETWORK, Head(HEAD.types[kept], HEAD.header, arrays))
    np.testing.assert_allclose(fewer.probabilities(embeddings), found[kept])


def test_a_constant_offset_changes_no_frame() -> None:
    sound = np.random.default_rng(1).normal(size=2 * RATE_HZ).astype(np.float32) * 0.1
    by = Tagger(NETWORK, HEAD)
    np.testing.assert_allclose(by.frames(sound + np.float32(0.3)), by.frames(sound), atol=1e-4)


@given(n_frames=st.integers(1, 40), width=st.sampled_from([1, 3, 11]))
def test_over_time_each_frame_counts_with_those_around_it(n_frames: int, width: int) -> None:
    drawn = np.random.default_rng(2).normal(size=(n_frames, NETWORK.n_embedding))
    frames = drawn.astype(np.float32)
    by = Tagger(NETWORK, HEAD)
    found = by.over_time(frames, width=width)
    assert found.shape == (n_frames, len(HEAD.types))
    at = n_frames // 2
    around = frames[max(0, at - width // 2) : at + width // 2 + 1].mean(axis=0, keepdims=True)
    np.testing.assert_allclose(found[at], by.probabilities(around), atol=1e-4)


def test_a_type_has_its_strongest_tag() -> None:
    tags = np.full((1, 527), -5.0, dtype=np.float32)
    tags[0, 339], tags[0, 329] = 2.0, 1.0
    found = of_types(tags, ("helicopter", "train", "my_machine"))
    assert found[0].tolist()[:2] == [2.0, 1.0]
    assert found[0, 2] < -5.0


@given(
    start=st.integers(0, 100 * RATE_HZ),
    length=st.integers(1, 500 * RATE_HZ),
    behind=st.integers(0, RATE_HZ),
)
def test_pieces_cover_a_stretch_evenly_and_are_bounded(
    start: int, length: int, behind: int
) -> None:
    stop = start + length
    pieces = pieces_of(start, stop, n_samples=stop + behind)
    assert pieces
    assert all(a[1] == b[0] for a, b in pairwise(pieces))
    assert all(0 <= first < last <= stop + behind for first, last in pieces)
    assert all(last - first <= max(PIECE, SHORTEST) for first, last in pieces)
    enough = min(SHORTEST, stop + behind)
    assert all(last - first >= min(enough, length) for first, last in pieces)
    if length >= SHORTEST:
        assert pieces[0][0] == start
