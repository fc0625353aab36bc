"""Check that a model file is intact and reproduces the outputs recorded when it was made."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from actors.science.detection import cards
from actors.science.detection.classifier import Classifier
from actors.science.errors import ModelError

#: Largest accepted difference from a recorded probability. Other processors and libraries sum in a
#: different order, so features differ in their last digits; where one is that close to the
#: threshold of a tree, the tree takes the other branch: noise 100 dB below the sound moved the vote
#: by one tree's share, 0.01. A misread model, or features computed differently, deviate by more
#: than this.
TOLERANCE = 0.02
#: Largest accepted deviation from 1 of a frame's summed probabilities.
SUM_TOLERANCE = 1e-3
#: Longest accepted name, version or class.
MOST_CHARS = 100


@dataclass(frozen=True, slots=True)
class Check:
    """The result of one check; ``passed`` is None where there was nothing to compare with."""

    name: str
    passed: bool | None
    detail: str


def check(
    data: bytes,
    *,
    sha256: str | None = None,
    classes: Sequence[str] | None = None,
    card: Mapping[str, object] | None = None,
) -> tuple[list[Check], Classifier | None]:
    """Run all checks on a model file.

    Parameters
    ----------
    data
        The file.
    sha256, classes, card
        The registered values, if any.

    Returns
    -------
    tuple
        The checks in order, and the model if its file could be read. After a failed check, those
        that depend on it are omitted.
    """
    digest = hashlib.sha256(data).hexdigest()
    fits = None if sha256 is None else digest == sha256
    checks = [
        Check("hash", fits, "as registered" if fits else f"the file's SHA-256 is {digest}"),
    ]
    if fits is False:
        return checks, None
    try:
        model = Classifier.from_bytes(data)
    except ModelError as error:
        return [*checks, Check("schema", False, str(error))], None
    schema = _schema(model)
    checks.append(schema)
    if not schema.passed:
        return checks, None
    return [*checks, _classes(model, classes), *_outputs(model, card)], model


def _schema(model: Classifier) -> Check:
    """Check that the header can be displayed and stored."""
    try:
        text = json.dumps(dict(model.header), allow_nan=False)
    except ValueError:
        return Check("schema", False, "the header holds numbers that are not finite")
    types = () if model.head is None else model.head.types
    names = [model.header["name"], model.header["version"], *model.classes, *types]
    if not all(_is_name(name) for name in names) or "\\u0000" in text:
        return Check("schema", False, "the header holds names that cannot be shown")
    return Check("schema", True, f"{model.header['algorithm']}, {len(model.classes)} classes")


def _is_name(name: object) -> bool:
    return isinstance(name, str) and name.isprintable() and 0 < len(name) <= MOST_CHARS


def _classes(model: Classifier, registered: Sequence[str] | None) -> Check:
    if registered is not None and list(registered) != list(model.classes):
        return Check("classes", False, "not the classes that were registered")
    return Check("classes", True, ", ".join(model.classes))


def _outputs(model: Classifier, card: Mapping[str, object] | None) -> list[Check]:
    scores = cards.probe_scores(model)
    are_shares = (
        np.isfinite(scores).all()
        and (scores >= 0).all()
        and np.allclose(scores.sum(axis=1), 1.0, atol=SUM_TOLERANCE)
    )
    is_same = Classifier.from_bytes(model.to_bytes()).sha256 == model.sha256
    return [
        Check("outputs", bool(are_shares), "finite, in [0, 1], rows sum to 1"),
        Check("round_trip", is_same, "written and read again, it is the same"),
        _known_vectors(scores.astype(float), card),
    ]


def _known_vectors(scores: NDArray[np.float64], card: Mapping[str, object] | None) -> Check:
    recorded = None if card is None else card.get("probe_scores")
    if recorded is None:
        return Check("known_vectors", None, "none were recorded for this model")
    expected = np.array(recorded, dtype=float)
    if expected.shape != scores.shape:
        return Check("known_vectors", False, "the recorded ones are of another shape")
    furthest = float(np.abs(expected - scores).max())
    return Check("known_vectors", furthest <= TOLERANCE, f"at most {furthest:.1e} apart")
