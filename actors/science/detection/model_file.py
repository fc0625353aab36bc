"""Model files: a JSON header, plain arrays, and a checksum.

A file can come from anywhere. It contains no code and nothing that is evaluated; the arrays have
the types and shapes that the header declares. Everything is checked before use.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from actors.science.detection.cnn import Convolutional
from actors.science.detection.ensemble import Estimator, Network
from actors.science.detection.features import FEATURE_VERSION, N_FEATURES
from actors.science.detection.forest import Forest
from actors.science.detection.tagging import heads
from actors.science.detection.tagging.tagger import Head
from actors.science.detection.textures import N_TEXTURES
from actors.science.errors import ModelError
from actors.science.types import BACKGROUND, UNCLASSIFIED, AnyArray, JsonDict

#: First bytes of a model file; the last one is the version of the format.
MAGIC = b"CLAMOR\x00\x02"

#: Largest accepted file, well above any model made by this program.
MOST_BYTES = 64 * 1024 * 1024

#: Most estimators, arrays and dimensions of an array, well above those of any model made by this
#: program.
MOST_MEMBERS = 64
MOST_ARRAYS = 4_096
MOST_DIMENSIONS = 8

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
#: The fields that are shown, and the most characters of each, well above those of any model.
_SHOWN = ("name", "version", "algorithm")
_MOST_CHARS = 1_000
#: Fields of a file's header that describe its layout; they are not part of `Classifier.header`.
_LAYOUT = ("arrays", "members", "head")


def encode(header: Mapping[str, object], members: Sequence[Estimator], head: Head | None) -> bytes:
    """Encode a model's parts as a file; the same parts give the same bytes."""
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


class Parts(NamedTuple):
    """What a model file holds: the header without its layout, the estimators, and the head."""

    header: JsonDict
    members: tuple[Estimator, ...]
    head: Head | None


def decode(data: bytes) -> Parts:
    """Read a model file.

    Raises
    ------
    ModelError
        If it is damaged, has another format, or was made for other features.
    """
    header, offset = _checked_header(data)
    arrays = _arrays_of(header.get("arrays"), data=data, offset=offset)
    head = heads.read(header.get("head"), arrays, trained=header.get("trained_types", []))
    members = _members_of(header.get("members"), arrays, n_classes=len(header["classes"]))
    plain = {name: value for name, value in header.items() if name not in _LAYOUT}
    return Parts(plain, members, head)


def _checked_header(data: bytes) -> tuple[JsonDict, int]:
    """Return the header, and the offset of the arrays."""
    if data[: len(MAGIC) - 1] != MAGIC[:-1]:
        raise ModelError("the file is not a model file of Clamor")
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
    _check_values(header)
    return _with_fields(header), start + length


def _check_values(header: object) -> None:
    """Reject what JSON can express and neither UTF-8 nor a database can store."""
    waiting = [header]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            waiting += [*value, *value.values()]
        elif isinstance(value, list):
            waiting += value
        elif isinstance(value, str) and not _is_storable(value):
            raise ModelError("the header of the model file contains a character that is none")
        elif isinstance(value, float) and not math.isfinite(value):
            raise ModelError("the header of the model file contains a number that is not finite")


def _is_storable(text: str) -> bool:
    return not any(each == "\0" or "\ud800" <= each <= "\udfff" for each in text)


def _with_fields(header: object) -> JsonDict:
    if not isinstance(header, dict) or any(field not in header for field in _REQUIRED):
        raise ModelError(f"a model's header has {', '.join(_REQUIRED)}")
    shown = [header[field] for field in _SHOWN]
    if not all(isinstance(each, str) and 0 < len(each) <= _MOST_CHARS for each in shown):
        raise ModelError(
            f"a model's {', '.join(_SHOWN)} are texts of up to {_MOST_CHARS} characters"
        )
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
        raise ModelError(
            f"a model must have the class {BACKGROUND}, and none called {UNCLASSIFIED}"
        )
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
        raise ModelError("the header of the model file lists no arrays")
    if len(table) > MOST_ARRAYS:
        raise ModelError(f"a model has at most {MOST_ARRAYS} arrays")
    for entry in table:
        name, dtype, shape = _entry(entry)
        count = math.prod(shape)
        if name in arrays:
            raise ModelError("the model file holds an array twice")
        if offset + count * dtype.itemsize > end:
            raise ModelError("the model file is shorter than its header declares")
        values = np.frombuffer(data, dtype=dtype, count=count, offset=offset)
        # A copy, in native byte order and aligned.
        arrays[name] = values.astype(dtype.newbyteorder("=")).reshape(shape)
        offset += values.nbytes
    if offset != end:
        raise ModelError("the model file is longer than its header declares")
    return arrays


def _entry(entry: object) -> tuple[str, np.dtype[np.generic], tuple[int, ...]]:
    if isinstance(entry, list) and len(entry) == 3:
        name, dtype, shape = entry
        is_shape = (
            isinstance(shape, list)
            and len(shape) <= MOST_DIMENSIONS
            and all(type(size) is int and 0 < size < 1 << 24 for size in shape)
        )
        if isinstance(name, str) and dtype in _DTYPES and is_shape:
            return name, np.dtype(f"<{dtype}"), tuple(shape)
    raise ModelError("the header of the model file has an invalid description of an array")


def _members_of(
    described: object, arrays: Mapping[str, AnyArray], *, n_classes: int
) -> tuple[Estimator, ...]:
    if not isinstance(described, list) or not described:
        raise ModelError("the header of the model file lists no estimators")
    if len(described) > MOST_MEMBERS:
        raise ModelError(f"a model has at most {MOST_MEMBERS} estimators")
    own: dict[str, dict[str, AnyArray]] = {str(number): {} for number in range(len(described))}
    for name, values in arrays.items():
        number, _, rest = name.partition(".")
        own.get(number, {})[rest] = values
    voters = [
        _member(fields, arrays=of_member)
        for fields, of_member in zip(described, own.values(), strict=True)
    ]
    if sum(len(member.arrays) for member in voters) != len(arrays):
        raise ModelError("the model file contains arrays that no estimator uses")
    for member in voters:
        if member.n_classes != n_classes:
            raise ModelError("an estimator of the model has another number of classes")
        if member.width != _WIDTHS[member.input_kind]:
            raise ModelError(f"an estimator of the model has another number of {member.input_kind}")
    if all(member.input_kind == "textures" for member in voters):
        raise ModelError("the model needs an estimator over features or samples to locate sounds")
    return tuple(voters)


def _member(fields: object, *, arrays: Mapping[str, AnyArray]) -> Estimator:
    if not isinstance(fields, dict) or fields.get("kind") not in tuple(KINDS):
        raise ModelError(f"an estimator must be one of {', '.join(KINDS)}")
    settings = {name: value for name, value in fields.items() if name != "kind"}
    try:
        return KINDS[fields["kind"]](arrays=arrays, **settings)
    except TypeError as error:
        raise ModelError("an estimator of the model has invalid fields") from error
