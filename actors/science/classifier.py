"""The classifier: a file of plain arrays, and the few lines that evaluate it.

A model is a small ensemble of feed-forward networks over standardised features. Networks without
hidden layers are linear models (logistic regression, discriminant analysis), so the one format
holds all that was compared.

The file can come from anywhere. It holds no code and nothing that is evaluated: a JSON header,
arrays whose shapes the header tells, and a checksum. Everything is checked before use.
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
from numpy.typing import NDArray

from actors.science.errors import ModelError
from actors.science.features import FEATURE_VERSION

#: First bytes of a model file; the last one is the version of the format.
MAGIC = b"CLAMOR\x00\x01"

#: No model that this program makes comes near it; a larger file is not read.
MOST_BYTES = 64 * 1024 * 1024

#: Standardised features beyond this are cut: what was never seen must not shout.
LARGEST_Z = 6.0

_LENGTH = struct.Struct("<I")
_DIGEST_BYTES = 32
_REQUIRED = ("name", "version", "algorithm", "feature_version", "classes")

Array = NDArray[np.float32]
#: Weights [shape=(n_in, n_out)] and biases [shape=(n_out,)].
Layer = tuple[Array, Array]


@dataclass(frozen=True, eq=False)
class Model:
    """A classifier that is ready to use.

    Attributes
    ----------
    header
        Name, version, algorithm, feature version, classes, hash of the training data, versions
        of the libraries, credits.
    classes
        Names of the columns of `scores`.
    sha256
        Of the model file, in hex.
    """

    header: Mapping[str, Any]
    classes: tuple[str, ...]
    sha256: str
    _arrays: Mapping[str, Array]
    _networks: tuple[tuple[Layer, ...], ...]

    def scores(self, features: Array) -> Array:
        """Class probabilities of chunks.

        Parameters
        ----------
        features : numpy.ndarray [shape=(n_chunks, N_FEATURES), dtype=float32]
            As `features.extract` gives them.

        Returns
        -------
        numpy.ndarray [shape=(n_chunks, n_classes), dtype=float32]
            Rows sum to 1.

        Raises
        ------
        ValueError
            When the features have another width than the model.
        """
        mean, scale = self._arrays["mean"], self._arrays["scale"]
        if features.ndim != 2 or features.shape[1] != mean.size:
            raise ValueError(f"features have the shape (n_chunks, {mean.size})")
        standardised = np.clip((features - mean) / scale, -LARGEST_Z, LARGEST_Z)
        temperature = float(self._arrays["temperature"][0])
        total = np.zeros((len(features), len(self.classes)))
        for network in self._networks:
            total += _softmax(_forward(network, standardised) / temperature)
        return (total / len(self._networks)).astype(np.float32)

    def to_bytes(self) -> bytes:
        """The model file. The same model gives the same bytes."""
        return _encode(self.header, self._arrays)

    @classmethod
    def make(cls, header: Mapping[str, Any], *, arrays: Mapping[str, Array]) -> Model:
        """A model from its parts.

        Parameters
        ----------
        header
            With at least ``name``, ``version``, ``algorithm``, ``feature_version``, ``classes``.
        arrays
            ``mean`` and ``scale`` [shape=(n_features,)], ``temperature`` [shape=(1,)], and for
            each network ``n`` and layer ``l`` ``n.l.weights`` and ``n.l.biases``.

        Raises
        ------
        ModelError
            When the parts do not fit each other.
        """
        return cls.from_bytes(_encode(header, arrays))

    @classmethod
    def from_bytes(cls, data: bytes) -> Model:
        """Read a model file.

        Raises
        ------
        ModelError
            When it is damaged, of another format or made for other features.
        """
        header = _checked_header(data)
        arrays = _arrays_of(header, data)
        classes = tuple(header["classes"])
        networks = _networks_of(arrays, n_classes=len(classes))
        plain = {name: value for name, value in header.items() if name != "arrays"}
        digest = hashlib.sha256(data).hexdigest()
        return cls(plain, classes, digest, arrays, networks)


@cache
def shipped() -> Model:
    """The model that comes with the package.

    Raises
    ------
    ModelError
        When the package's own file is damaged.
    """
    return Model.from_bytes((resources.files(__package__) / "model" / "base.clamor").read_bytes())


def network_arrays(networks: Sequence[Sequence[Layer]]) -> dict[str, Array]:
    """The arrays of `Model.make` that hold the networks."""
    arrays: dict[str, Array] = {}
    for number, network in enumerate(networks):
        for depth, (weights, biases) in enumerate(network):
            arrays[f"{number}.{depth}.weights"] = weights.astype(np.float32)
            arrays[f"{number}.{depth}.biases"] = biases.astype(np.float32)
    return arrays


def _forward(network: Sequence[Layer], values: Array) -> Array:
    for depth, (weights, biases) in enumerate(network):
        values = values @ weights + biases
        if depth + 1 < len(network):
            values = np.maximum(values, 0.0)
    return values


def _softmax(logits: Array) -> NDArray[np.float64]:
    shifted = logits.astype(np.float64)
    shifted = np.exp(shifted - shifted.max(axis=1, keepdims=True))
    probabilities: NDArray[np.float64] = shifted / shifted.sum(axis=1, keepdims=True)
    return probabilities


def _encode(header: Mapping[str, Any], arrays: Mapping[str, Array]) -> bytes:
    ordered = sorted(arrays)
    table = [[name, list(arrays[name].shape)] for name in ordered]
    text = json.dumps({**header, "arrays": table}, sort_keys=True, ensure_ascii=False)
    raw = text.encode()
    body = b"".join(
        [
            MAGIC,
            _LENGTH.pack(len(raw)),
            raw,
            *(arrays[name].astype("<f4").tobytes() for name in ordered),
        ]
    )
    return body + hashlib.sha256(body).digest()


def _checked_header(data: bytes) -> dict[str, Any]:
    if data[: len(MAGIC) - 1] != MAGIC[:-1]:
        raise ModelError("this is no model file")
    if data[: len(MAGIC)] != MAGIC:
        raise ModelError("the model file is of another version of the format")
    if len(data) > MOST_BYTES:
        raise ModelError(f"the model file is larger than {MOST_BYTES} bytes")
    body, digest = data[:-_DIGEST_BYTES], data[-_DIGEST_BYTES:]
    if hashlib.sha256(body).digest() != digest:
        raise ModelError("the model file is damaged: its checksum does not fit")
    try:
        (length,) = _LENGTH.unpack_from(data, len(MAGIC))
        header = json.loads(data[_header_start() : _header_start() + length])
    except (struct.error, ValueError, RecursionError) as error:
        raise ModelError("the model file has no readable header") from error
    _check_fields(header)
    assert isinstance(header, dict)
    header["arrays"] = {"at": _header_start() + length, "table": header.get("arrays")}
    return header


def _check_fields(header: object) -> None:
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


def _arrays_of(header: Mapping[str, Any], data: bytes) -> dict[str, Array]:
    offset, table = header["arrays"]["at"], header["arrays"]["table"]
    end = len(data) - _DIGEST_BYTES
    arrays: dict[str, Array] = {}
    if not isinstance(table, list):
        raise ModelError("the model file does not say which arrays it holds")
    for entry in table:
        name, shape = _entry(entry)
        n_bytes = 4 * math.prod(shape)
        if offset + n_bytes > end:
            raise ModelError("the model file holds less than its header tells")
        values = np.frombuffer(data, dtype="<f4", count=n_bytes // 4, offset=offset)
        if not np.isfinite(values).all():
            raise ModelError("the model holds numbers that are not finite")
        arrays[name] = values.astype(np.float32).reshape(shape)
        offset += n_bytes
    if offset != end:
        raise ModelError("the model file holds more than its header tells")
    return arrays


def _entry(entry: object) -> tuple[str, tuple[int, ...]]:
    if isinstance(entry, list) and len(entry) == 2:
        name, shape = entry
        is_shape = isinstance(shape, list) and all(
            type(size) is int and 0 < size < 1 << 24 for size in shape
        )
        if isinstance(name, str) and is_shape:
            return name, tuple(shape)
    raise ModelError("the model file describes an array wrongly")


def _networks_of(arrays: Mapping[str, Array], *, n_classes: int) -> tuple[tuple[Layer, ...], ...]:
    try:
        mean, scale, temperature = (arrays[name] for name in ("mean", "scale", "temperature"))
        fits = mean.ndim == 1 and mean.shape == scale.shape and temperature.shape == (1,)
        if not fits or (scale <= 0).any() or temperature[0] <= 0:
            raise ModelError("the model's scaling is wrong")
        networks: list[tuple[Layer, ...]] = []
        while f"{len(networks)}.0.weights" in arrays:
            networks.append(_network(arrays, number=len(networks), n_in=mean.size))
    except KeyError as error:
        raise ModelError("the model lacks an array") from error
    if not networks or any(network[-1][1].size != n_classes for network in networks):
        raise ModelError("the model's networks do not end in its classes")
    return tuple(networks)


def _network(arrays: Mapping[str, Array], *, number: int, n_in: int) -> tuple[Layer, ...]:
    layers: list[Layer] = []
    while f"{number}.{len(layers)}.weights" in arrays:
        depth = len(layers)
        weights = arrays[f"{number}.{depth}.weights"]
        biases = arrays[f"{number}.{depth}.biases"]
        if weights.ndim != 2 or weights.shape[0] != n_in or biases.shape != weights.shape[1:]:
            raise ModelError("the layers of the model do not fit each other")
        layers.append((weights, biases))
        n_in = biases.size
    return tuple(layers)


def _header_start() -> int:
    return len(MAGIC) + _LENGTH.size
