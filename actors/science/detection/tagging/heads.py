"""The head of a model file: the base types, and types that were trained beside them.

A model with trained types contains a whole head, not additions to the one that ships, so it gives
the same results in every release that has its backbone.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping

import numpy as np

from actors.facts import noise_types
from actors.science.detection.tagging.tagger import Head
from actors.science.errors import ModelError
from actors.science.types import BACKGROUND, UNCLASSIFIED, AnyArray, JsonDict

#: Prefix of a head's array names in a model file.
PREFIX = "head."

#: Largest accepted number, well above any in a head. Larger ones may make logits infinite.
_LARGEST = 1e4

#: Smallest accepted spread of embeddings, for the same reason.
_LEAST_SPREAD = 1e-4

_TEXTS = ("version", "backbone", "backbone_sha256")


def arrays_of(head: Head | None) -> dict[str, AnyArray]:
    """Return a head's arrays by their names in a model file."""
    return {} if head is None else {PREFIX + name: each for name, each in head.arrays.items()}


def described(head: Head | None) -> JsonDict:
    """Return the header fields that describe a head in a model file."""
    return {} if head is None else {"head": {**head.header, "types": list(head.types)}}


def read(
    fields: object, arrays: MutableMapping[str, AnyArray], *, trained: list[str]
) -> Head | None:
    """Read the head of a model file, if any, and remove its arrays from ``arrays``.

    ``trained`` are the names that the file gives as trained types.

    Raises
    ------
    ModelError
        If the parts do not match each other.
    """
    names = [name for name in arrays if name.startswith(PREFIX)]
    own = {name.removeprefix(PREFIX): arrays.pop(name) for name in names}
    if fields is None:
        if own or trained:
            raise ModelError("a model without a head has arrays or types of one")
        return None
    if not isinstance(fields, dict):
        raise ModelError("the model file describes its head wrongly")
    header = dict(fields)
    types = _checked_types(header.pop("types", None), trained)
    _check_header(header)
    _check_arrays(own, n_types=len(types))
    return Head(types, header, own)


def _checked_types(types: object, trained: list[str]) -> tuple[str, ...]:
    if not isinstance(types, list) or not all(isinstance(each, str) and each for each in types):
        raise ModelError("the head of a model has names of types")
    if len(set(types)) != len(types):
        raise ModelError("the head of a model has each type once")
    if wrong := {*types} & {*noise_types.groups(), BACKGROUND, UNCLASSIFIED}:
        raise ModelError(f"no type of a head is called {', '.join(sorted(wrong))}")
    if not {*trained} <= {*types} or len(set(trained)) != len(trained):
        raise ModelError("the trained types of a model are columns of its head")
    return tuple(types)


def _check_header(header: Mapping[str, object]) -> None:
    if not all(isinstance(header.get(field), str) for field in _TEXTS):
        raise ModelError(f"the head of a model has {', '.join(_TEXTS)}")


def _check_arrays(arrays: Mapping[str, AnyArray], *, n_types: int) -> None:
    n_embedding = arrays["mean"].size if "mean" in arrays else 0
    shapes = {
        "mean": (n_embedding,),
        "spread": (),
        "prior": (n_types,),
        "scale": (n_types,),
        "bias": (n_types,),
        "weights": (n_types, n_embedding),
    }
    if {name: each.shape for name, each in arrays.items()} != shapes:
        raise ModelError("the arrays of a model's head do not fit each other")
    for values in arrays.values():
        # Written this way, NaN fails too.
        if values.dtype != np.float32 or not (np.abs(values) <= _LARGEST).all():
            raise ModelError("the arrays of a model's head are moderate numbers of 32 bits")
    if not arrays["spread"] >= _LEAST_SPREAD:
        raise ModelError("the spread of a head's embeddings is too small")
