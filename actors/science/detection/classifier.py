"""The classifier: the vote of a model's estimators, each turning sound into class probabilities.

`model_file` reads and writes it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources

import numpy as np

from actors.science.detection import ensemble, model_file
from actors.science.detection.ensemble import Array, Estimator
from actors.science.detection.tagging.tagger import Head
from actors.science.types import JsonDict

#: The shipped model, and its gate.
MODEL_FILE, GATE_FILE = "base.clamor", "gate.clamor"


@dataclass(frozen=True, eq=False)
class Classifier:
    """A classifier that is ready to use.

    Attributes
    ----------
    header
        Name, version, algorithm, feature version, classes, hash of the training data, library
        versions, credits.
    classes
        Names of the columns of `scores`.
    sha256
        Of the model file, in hex.
    members
        The estimators that vote.
    head
        Base types and trained types over the backbone, replacing the base types that ship; None for
        a model trained on classes alone.
    gate
        A classifier that has the classes of the model and further types; see `open_set`. The
        shipped model has one, in a separate file.
    """

    header: JsonDict
    classes: tuple[str, ...]
    sha256: str
    members: tuple[Estimator, ...]
    head: Head | None = None
    gate: Classifier | None = None

    @property
    def input_kinds(self) -> frozenset[str]:
        """The inputs of the estimators: ``features``, ``textures``, ``samples``."""
        return frozenset(member.input_kind for member in self.members)

    @property
    def quick_members(self) -> tuple[Estimator, ...]:
        """The estimators that vote beside base types: all but those over textures.

        Textures take a third of the time of segment classification, and beside base types they
        change the accuracy by three clips of 318 or less (docs/model.md). Every model has other
        estimators: see `model_file`.
        """
        return tuple(each for each in self.members if each.input_kind != "textures")

    @property
    def trained_types(self) -> tuple[str, ...]:
        """The types that the head adds to the base types, or refines among them."""
        return tuple(self.header.get("trained_types", ()))

    @property
    def vote_temperature(self) -> float:
        """Divides the logarithms of the vote; below 1 its probabilities become more extreme."""
        return float(self.header.get("vote_temperature", 1.0))

    @property
    def thresholds(self) -> dict[str, float]:
        """The minimum confidence of an event by class, where it is not the default."""
        return dict(self.header.get("thresholds", {}))

    def scores(self, features: Array) -> Array:
        """Compute class probabilities of chunks by the estimators that need only their features.

        Parameters
        ----------
        features : numpy.ndarray [shape=(n_chunks, N_FEATURES), dtype=float32]
            As returned by `features.extract`.

        Returns
        -------
        numpy.ndarray [shape=(n_chunks, n_classes), dtype=float32]
            Rows sum to 1.

        Raises
        ------
        ValueError
            If the features do not have the model's width, or no estimator uses features.
        """
        voters = [member for member in self.members if member.input_kind == "features"]
        if not voters:
            raise ValueError("no estimator of the model uses features")
        width = voters[0].width
        if features.ndim != 2 or features.shape[1] != width:
            raise ValueError(f"features have the shape (n_chunks, {width})")
        logits = [member.logits(features) for member in voters]
        return ensemble.vote(voters, logits).astype(np.float32)

    def to_bytes(self) -> bytes:
        """Encode as a model file. The same model gives the same bytes."""
        return model_file.encode(self.header, self.members, self.head)

    @classmethod
    def make(
        cls, header: Mapping[str, object], *, members: Sequence[Estimator], head: Head | None = None
    ) -> Classifier:
        """Make a model from its parts.

        Parameters
        ----------
        header
            With at least ``name``, ``version``, ``algorithm``, ``feature_version``, ``classes``.
        members
            The estimators, each with the classes in the header's order.
        head
            Its columns include the header's ``trained_types``.

        Raises
        ------
        ModelError
            If the parts do not match each other.
        """
        return cls.from_bytes(model_file.encode(header, members, head))

    @classmethod
    def from_bytes(cls, data: bytes) -> Classifier:
        """Read a model file.

        Raises
        ------
        ModelError
            If it is damaged, has another format, or was made for other features.
        """
        header, members, head = model_file.decode(data)
        sha256 = hashlib.sha256(data).hexdigest()
        return cls(header, tuple(header["classes"]), sha256, members, head)


@cache
def shipped() -> Classifier:
    """Read the model that comes with the package, with its gate.

    Raises
    ------
    ModelError
        If the package's own file is damaged.
    """
    return replace(packaged(MODEL_FILE), gate=packaged(GATE_FILE))


def packaged(name: str) -> Classifier:
    """Read one of the package's model files; see `shipped`."""
    return Classifier.from_bytes((resources.files("actors.science") / "model" / name).read_bytes())
