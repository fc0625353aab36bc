"""Training of the base types: its data, and that it learns."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from actors.science.detection.tagging.backbone import RATE_HZ, BackboneNetwork
from actors.training import linear_head
from actors.training.shipped_model import base_type_examples, base_types
from actors.training.shipped_model.base_type_examples import EmbeddedSounds
from actors.training.sounds import Sound
from tests.support import weights

NETWORK = BackboneNetwork.from_bytes(weights.file_of(weights.random_state(width=0.4)))


def tone(hz: float, seconds: float = 2.0) -> np.ndarray:
    t = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    return np.asarray(0.2 * np.sin(2 * np.pi * hz * t), dtype=np.float32)


def test_each_column_is_a_type() -> None:
    types = base_types.types_of_head()
    assert len(set(types)) == len(types)
    assert not {"traffic", "human", "nature", "other"} & set(types)


def test_examples_are_sounds_copies_pairs_and_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base_type_examples, "PAIRS", 10)
    rng = np.random.default_rng(0)
    given = [
        Sound("a", ("siren",), "1", tone(700.0), origin="everyday"),
        Sound("b", ("bell",), "1", tone(1_500.0), origin="everyday"),
        Sound("bed", (), "2", tone(90.0)),
    ]
    beds = [Sound("wind", ("wind",), "3", tone(200.0, 12.0), origin="backgrounds")]
    found = list(base_type_examples.copies(given, beds, rng))
    kinds = Counter(each.types for each in found)
    assert kinds[("siren",)] == kinds[("bell",)] == 1 + linear_head.COPIES
    assert kinds[()] == 1
    assert kinds[("wind",)] >= 1
    assert 0 < kinds[("siren", "bell")] + kinds[("bell", "siren")] < base_type_examples.PAIRS


def examples(n: int) -> EmbeddedSounds:
    """Return examples of two types, of both at once, and of neither."""
    rng = np.random.default_rng(0)
    directions = {name: rng.standard_normal(NETWORK.n_embedding) for name in ("train", "birds")}
    found = EmbeddedSounds()
    for number in range(n):
        types = (("train",), ("birds",), ("train", "birds"), ())[number % 4]
        row = 0.5 * rng.standard_normal(NETWORK.n_embedding)
        row += sum(directions[name] for name in types)
        found.embeddings.append(row.astype(np.float32))
        found.types.append(types)
        found.also.append(())
        found.groups.append(str(number // 4 % 4))
    return found


def test_the_head_learns_what_sounds_be_it_several_types_or_none() -> None:
    given = examples(120)
    header = {"backbone": "random", "backbone_sha256": ""}
    head = base_types.fit(NETWORK, given.where({"0", "1"}), header=header)
    judged = given.where({"2", "3"})
    assert base_types.accuracy(head, NETWORK, judged) == 1.0
    embeddings = np.stack(judged.embeddings)
    is_likely = head.logits(embeddings, NETWORK.tags(embeddings)) > 0
    columns = [head.types.index(name) for name in ("train", "birds")]
    truth = [["train" in types, "birds" in types] for types in judged.types]
    assert (is_likely[:, columns] == truth).mean() > 0.95
    # Types without examples keep their tags, with a shared bias and scale.
    untaught = [head.types.index(name) for name in ("boat", "siren")]
    assert not head.arrays["weights"][untaught].any()
    assert np.ptp(head.arrays["bias"][untaught]) == np.ptp(head.arrays["scale"][untaught]) == 0.0


def test_a_type_that_would_be_no_mistake_counts_neither_way() -> None:
    given = EmbeddedSounds(also=[("siren",)], types=[("alarm_tone",)], groups=["1"])
    types = base_types.types_of_head()
    present, allowed = base_types.targets(given, types)
    names = np.array(types)
    assert names[present[0]].tolist() == ["alarm_tone"]
    assert set(names[allowed[0]]) == {"siren", "siren_sweep", "alarm", "alarm_tone"}
