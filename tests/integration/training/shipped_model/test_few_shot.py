"""The evaluation of few-shot types, over synthetic embeddings."""

from __future__ import annotations

import numpy as np
import pytest

from actors.science.detection.tagging.backbone import BackboneNetwork
from actors.science.detection.tagging.tagger import Tagger
from actors.training.head_fitting import ClipEmbeddings
from actors.training.shipped_model import base_type_examples, base_types, few_shot
from actors.training.shipped_model.base_type_examples import EmbeddedSounds
from actors.training.shipped_model.few_shot import FewShotFold, HeldOutSounds
from tests.support import weights

NETWORK = BackboneNetwork.from_bytes(weights.file_of(weights.random_state(width=0.4)))
NEW = ["new a", "new b"]
DIRECTIONS = dict(
    zip(
        ("birds", "train", *NEW),
        np.random.default_rng(0).standard_normal((4, NETWORK.n_embedding)),
        strict=True,
    )
)


def near(name: str, how_many: int, *, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng([seed, *name.encode()])
    noise = 0.3 * rng.standard_normal((how_many, NETWORK.n_embedding))
    found: np.ndarray = (DIRECTIONS[name] + noise).astype(np.float32)
    return found


def judged(*names: str) -> HeldOutSounds:
    embeddings = np.concatenate([near(name, 5, seed=1) for name in names])
    return HeldOutSounds(embeddings, [frozenset({name}) for name in names for _ in range(5)])


def fold() -> FewShotFold:
    """Return base types trained on birds and trains, and clips 0 to 9 to learn from."""
    known = EmbeddedSounds()
    for name in ("birds", "train"):
        known.embeddings += list(near(name, 10))
        known.types += [(name,)] * 10
        known.also += [()] * 10
        known.groups += ["1"] * 10
    head = base_types.fit(NETWORK, known, header={"backbone": "random", "backbone_sha256": ""})
    head = few_shot.without_types(head, ["rain", "sneeze"])
    assert not {"rain", "sneeze"} & set(head.types)
    against = base_type_examples.choose_negatives(known, head.types, backbone_sha256="")
    clean, everyday = judged(*NEW), judged("birds", "train")
    return FewShotFold(Tagger(NETWORK, head), against, np.arange(10), clean, clean, everyday)


def material() -> ClipEmbeddings:
    """Return clips 0 to 9, and clips 10 to 19 with wrong labels, which the fold must not use."""
    right, wrong = (np.concatenate([near(name, 5) for name in names]) for names in (NEW, NEW[::-1]))
    labels = np.array([name for name in NEW for _ in range(5)])
    return ClipEmbeddings(
        np.concatenate([right, wrong]),
        np.arange(20),
        np.zeros(20, dtype=bool),
        np.concatenate([labels, labels]),
    )


def test_types_are_learnt_from_the_other_folds_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(few_shot, "COUNTS", (3,))
    [shares] = few_shot.measure([fold()], material(), NEW)
    assert len(shares) == len(few_shot.COLUMNS) - 1
    assert shares == [1.0] * 7


def test_a_type_that_was_not_learnt_is_right_among_none() -> None:
    made = fold()
    assert not any(made.clean.right(made.beside))
    assert all(made.everyday.right(made.beside))
    assert all(made.everyday.right(made.beside, frozenset({"birds", "train"})))


def test_the_section_takes_the_place_of_the_one_before() -> None:
    rows = [[number / 100] * 7 for number in range(len(few_shot.COUNTS))]
    first = few_shot.placed("# Accuracy\n\nfigures\n", few_shot.section(rows))
    assert first.startswith("# Accuracy\n\nfigures\n\n## Types from a handful of examples\n")
    assert "| 20 | 4.0% |" in first
    assert few_shot.placed(first, few_shot.section(rows)) == first
