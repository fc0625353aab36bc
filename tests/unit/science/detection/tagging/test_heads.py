"""Heads in model files: storage, and rejection of inconsistent ones."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from actors.science.detection import classifier, integrity
from actors.science.detection.classifier import Classifier
from actors.science.detection.tagging.tagger import Head
from actors.science.errors import ModelError
from tests.support import weights

BASE = weights.random_head("ab", n_embedding=8)


def header(**changes: Any) -> dict[str, Any]:
    plain = dict(classifier.shipped().header)
    return {**plain, "trained_types": ["our_pump"], **changes}


def head(**changes: Any) -> Head:
    """Return a head with an additional type; ``changes`` are arrays."""
    arrays = {
        **BASE.arrays,
        "prior": np.append(BASE.arrays["prior"], np.float32(0)),
        "scale": np.append(BASE.arrays["scale"], np.float32(1)),
        "bias": np.append(BASE.arrays["bias"], np.float32(0)),
        "weights": np.pad(BASE.arrays["weights"], ((0, 1), (0, 0))),
    }
    return Head((*BASE.types, "our_pump"), BASE.header, {**arrays, **changes})


def made(given: Head | None, **changes: Any) -> Classifier:
    return Classifier.make(header(**changes), members=classifier.shipped().members, head=given)


def test_a_head_survives_its_file() -> None:
    model = made(head(), thresholds={"our_pump": 0.4})
    again = Classifier.from_bytes(model.to_bytes())
    assert again.head is not None
    assert (again.sha256, again.trained_types) == (model.sha256, ("our_pump",))
    assert (again.head.types, again.head.header) == (head().types, dict(BASE.header))
    for name, values in head().arrays.items():
        np.testing.assert_array_equal(again.head.arrays[name], values)
    assert again.thresholds == {"our_pump": 0.4}
    assert classifier.shipped().head is None
    checks, _ = integrity.check(model.to_bytes())
    assert all(each.passed is not False for each in checks)


def test_types_that_cannot_be_shown_do_not_pass() -> None:
    shown = Head((*BASE.types, "our\npump"), BASE.header, head().arrays)
    model = made(shown, trained_types=["our\npump"])
    checks, _ = integrity.check(model.to_bytes())
    assert {each.name: each.passed for each in checks}["schema"] is False


@pytest.mark.parametrize(
    "given",
    [
        None,
        head(weights=np.zeros((3, 8), dtype=np.float32)),
        head(mean=np.zeros(9, dtype=np.float32)),
        head(mean=np.zeros(8, dtype=np.float16)),
        head(mean=np.full(8, np.nan, dtype=np.float32)),
        head(mean=np.full(8, np.inf, dtype=np.float32)),
        head(scale=np.full(len(BASE.types) + 1, 1e6, dtype=np.float32)),
        head(scale=np.array(1, dtype=np.float32)),
        head(spread=np.array(0, dtype=np.float32)),
        head(spread=np.array(-1, dtype=np.float32)),
        head(more=np.zeros(1, dtype=np.float32)),
        replace(head(), types=(*BASE.types, "rain")),
        replace(head(), types=(*BASE.types, "traffic")),
        replace(head(), types=(*BASE.types, "unclassified")),
        replace(head(), types=(*BASE.types, "their_pump")),
        replace(head(), types=(*BASE.types, "background")),
        replace(head(), header={**BASE.header, "backbone_sha256": None}),
        replace(head(), header={}),
    ],
    ids=lambda given: None,
)
def test_heads_that_do_not_fit_are_refused(given: Head | None) -> None:
    with pytest.raises(ModelError):
        made(given)


@pytest.mark.parametrize(
    "changes",
    [
        {"trained_types": "our_pump"},
        {"trained_types": [1]},
        {"trained_types": ["background"]},
        {"trained_types": ["our_pump", "our_pump"]},
        {"thresholds": {"their_pump": 0.5}},
        {"warnings": "few"},
        {"warnings": [1]},
    ],
)
def test_headers_that_do_not_fit_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ModelError):
        made(head(), **changes)
