"""The classifier: a file of plain arrays, and the vote of its estimators.

A model is a weighted ensemble of estimators (``ensemble.py``), each turning a window of sound into
class probabilities.

The file can come from anywhere. It contains no code and nothing that is evaluated: a JSON header,
arrays with the types and shapes that the header declares, and a checksum. Everything is checked
before use.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import numpy as np

from actors.science.detection import ensemble
from actors.science.detection.cnn import Convolutional
from actors.science.detection.ensemble import AnyArray, Array, Estimator, Network
from actors.science.detection.features import FEATURE_VERSION, N_FEATURES
from actors.science.detection.forest import Forest
from actors.science.detection.textures import N_TEXTURES
from actors.science.errors import ModelError
from actors.science.tagging import heads
from actors.science.tagging.tagger import Head
from actors.science.types import BACKGROUND, UNCLASSIFIED

#: First bytes of a model file; the last one is the version of the format.
MAGIC = b"CLAMOR\x00\x02"

#: Largest accepted file, well above any model made by this program.
MOST_BYTES = 64 * 1024 * 1024

#: The kinds of estimators in a file.
KINDS: Mapping[str, type[Estimator]] = {
    kind.kind: kind for kind in (Network, Forest, Convolutional)
}

#: The width of each input.
_WIDTHS = {"features": N_FEATURES, "textures": N_TEXTURES, "samples": 0}

#: The accepted types of arrays, all little-endian.
_DTYPES = ("f2", "f4", "i2", "i4")

_LENGTH = struct.Struct("<I")
_DIGEST_BYTES = 32
_REQUIRED = ("name", "version", "algorithm", "feature_version", "classes")
#: Fields of a file's header that describe its layout; they are not part of `Model.header`.
_LAYOUT = ("arrays", "members", "head")


@dataclass(frozen=True, eq=False)
class Model:
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
    """

    header: Mapping[str, Any]
    classes: tuple[str, ...]
    sha256: str
    members: tuple[Estimator, ...]
    head: Head | None = None

    @property
    def needs(self) -> frozenset[str]:
        """The inputs of the estimators: ``features``, ``textures``, ``samples``."""
        return frozenset(member.needs for member in self.members)

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
        voters = [member for member in self.members if member.needs == "features"]
        if not voters:
            raise ValueError("no member of the model looks at features")
        width = voters[0].width
        if features.ndim != 2 or features.shape[1] != width:
            raise ValueError(f"features have the shape (n_chunks, {width})")
        logits = [member.logits(features) for member in voters]
        return ensemble.vote(voters, logits).astype(np.float32)

    def to_bytes(self) -> bytes:
        """Encode as a model file. The same model gives the same bytes."""
        return _encode(self.header, self.members, self.head)

    @classmethod
    def make(
        cls, header: Mapping[str, Any], *, members: Sequence[Estimator], head: Head | None = None
    ) -> Model:
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
        return cls.from_bytes(_encode(header, members, head))

    @classmethod
    def from_bytes(cls, data: bytes) -> Model:
        """Read a model file.

        Raises
        ------
        ModelError
            If it is damaged, has another format, or was made for other features.
        """
        header, offset = _checked_header(data)
        arrays = _arrays_of(header.get("arrays"), data=data, offset=offset)
        classes = tuple(header["classes"])
        head = heads.read(header.get("head"), arrays, trained=header.get("trained_types", []))
        voters = _members_of(header.get("members"), arrays=arrays, n_classes=len(classes))
        plain = {name: value for name, value in header.items() if name not in _LAYOUT}
        return cls(plain, classes, hashlib.sha256(data).hexdigest(), voters, head)


@cache
def shipped() -> Model:
    """Read the model that comes with the package.

    Raises
    ------
    ModelError
        If the package's own file is damaged.
    """
    return Model.from_bytes(
        (resources.files("actors.science") / "model" / "base.clamor").read_bytes()
    )


def _encode(header: Mapping[str, Any], members: Sequence[Estimator], head: Head | None) -> bytes:
    arrays = {
        f"{number}.{name}": values
        for number, member in enumerate(members)
        for name, values in member.arrays.items()
    } | heads.arrays_of(head)
    described = [
        {
            "kind": member.kind,
            "weight": member.weight,
            "temperature": member.temperature,
            **member.settings(),
        }
        for member in members
    ]
    ordered = sorted(arrays)
    table = [[name, arrays[name].dtype.str[1:], list(arrays[name].shape)] for name in ordered]
    layout = {"arrays": table, "members": described} | heads.described(head)
    raw = json.dumps({**header, **layout}, sort_keys=True, ensure_ascii=False).encode()
    values = (arrays[name].astype(arrays[name].dtype.newbyteorder("<")) for name in ordered)
    body = b"".join([MAGIC, _LENGTH.pack(len(raw)), raw, *(each.tobytes() for each in values)])
    return body + hashlib.sha256(body).digest()


def _checked_header(data: bytes) -> tuple[dict[str, Any], int]:
    """Return the header, and the offset of the arrays."""
    if data[: len(MAGIC) - 1] != MAGIC[:-1]:
        raise ModelError("this is no model file")
    if data[: len(MAGIC)] != MAGIC:
        raise ModelError("the model file is of another version of the format")
    if len(data) > MOST_BYTES:
        raise ModelError(f"the model file is larger than {MOST_BYTES} bytes")
    body, digest = data[:-_DIGEST_BYTES], data[-_DIGEST_BYTES:]
    if hashlib.sha256(body).digest() != digest:
        raise ModelError("the model file is damaged: its checksum does not fit")
    start = len(MAGIC) + _LENGTH.size
    try:
        (length,) = _LENGTH.unpack_from(data, len(MAGIC))
        header = json.loads(data[start : start + length])
    except (struct.error, ValueError, RecursionError) as error:
        raise ModelError("the model file has no readable header") from error
    return _with_fields(header), start + length


def _with_fields(header: object) -> dict[str, Any]:
    if not isinstance(header, dict) or any(field not in header for field in _REQUIRED):
        raise ModelError(f"a model's header has {', '.join(_REQUIRED)}")
    if header["feature_version"] != FEATURE_VERSION:
        raise ModelError(
            f"the model was made for version {str(header['feature_version'])[:20]} of the features,"
            f" this release has version {FEATURE_VERSION}"
        )
    classes = header["classes"]
    is_list = isinstance(classes, list) and all(isinstance(c, str) and c for c in classes)
    if not is_list or len(classes) < 2 or len(set(classes)) != len(classes):
        raise ModelError("a model has at least two classes with different names")
    if BACKGROUND not in classes or UNCLASSIFIED in classes:
        raise ModelError(f"a model knows {BACKGROUND}, and no class is called {UNCLASSIFIED}")
    thresholds = header.get("thresholds", {})
    trained = header.get("trained_types", [])
    if not isinstance(trained, list) or not all(isinstance(each, str) for each in trained):
        raise ModelError("a model's trained types are names")
    warnings = header.get("warnings", [])
    if not isinstance(warnings, list) or not all(isinstance(each, str) for each in warnings):
        raise ModelError("a model's warnings are sentences")
    is_table = isinstance(thresholds, dict) and set(thresholds) <= {*classes, *trained}
    if not is_table or not all(_is_number(each, 0.0, 1.0) for each in thresholds.values()):
        raise ModelError("a model's thresholds are probabilities of its classes")
    if not _is_number(header.get("vote_temperature", 1.0), 0.05, 20.0):
        raise ModelError("a model's vote temperature is a moderate number above 0")
    return header


def _is_number(value: object, low: float, high: float) -> bool:
    return type(value) in (int, float) and low <= value <= high  # type: ignore[operator]


def _arrays_of(table: object, *, data: bytes, offset: int) -> dict[str, AnyArray]:
    end = len(data) - _DIGEST_BYTES
    arrays: dict[str, AnyArray] = {}
    if not isinstance(table, list):
        raise ModelError("the model file does not say which arrays it holds")
    for entry in table:
        name, dtype, shape = _entry(entry)
        count = math.prod(shape)
        if name in arrays:
            raise ModelError("the model file holds an array twice")
        if offset + count * dtype.itemsize > end:
            raise ModelError("the model file holds less than its header tells")
        values = np.frombuffer(data, dtype=dtype, count=count, offset=offset)
        # A copy, in native byte order and aligned.
        arrays[name] = values.astype(dtype.newbyteorder("=")).reshape(shape)
        offset += values.nbytes
    if offset != end:
        raise ModelError("the model file holds more than its header tells")
    return arrays


def _entry(entry: object) -> tuple[str, np.dtype[Any], tuple[int, ...]]:
    if isinstance(entry, list) and len(entry) == 3:
        name, dtype, shape = entry
        is_shape = isinstance(shape, list) and all(
            type(size) is int and 0 < size < 1 << 24 for size in shape
        )
        if isinstance(name, str) and dtype in _DTYPES and is_shape:
            return name, np.dtype(f"<{dtype}"), tuple(shape)
    raise ModelError("the model file describes an array wrongly")


def _members_of(
    described: object, *, arrays: Mapping[str, AnyArray], n_classes: int
) -> tuple[Estimator, ...]:
    if not isinstance(described, list) or not described:
        raise ModelError("the model file does not say who votes")
    voters: list[Estimator] = []
    for number, fields in enumerate(described):
        parts = (name.partition(".") for name in arrays)
        own = {rest: arrays[f"{first}.{rest}"] for first, _, rest in parts if first == str(number)}
        voters.append(_member(fields, arrays=own))
    if sum(len(member.arrays) for member in voters) != len(arrays):
        raise ModelError("the model file holds arrays that belong to nobody")
    for member in voters:
        if member.n_classes != n_classes:
            raise ModelError("the model's members do not end in its classes")
        if member.width != _WIDTHS[member.needs]:
            raise ModelError(f"the model's members look at other {member.needs}")
    if all(member.needs == "textures" for member in voters):
        raise ModelError("no member of the model can tell where something sounds")
    return tuple(voters)


def _member(fields: object, *, arrays: Mapping[str, AnyArray]) -> Estimator:
    if not isinstance(fields, dict) or fields.get("kind") not in tuple(KINDS):
        raise ModelError(f"a member of a model is one of {', '.join(KINDS)}")
    settings = {name: value for name, value in fields.items() if name != "kind"}
    try:
        return KINDS[fields["kind"]](arrays=arrays, **settings)
    except TypeError as error:
        raise ModelError("a member of the model has fields that it cannot have") from error
