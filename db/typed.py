"""Decode and convert to declared types, safely in processes with several threads.

msgspec collects the fields of a type at its first use. Another thread that uses the type meanwhile
reads a half-filled table, and the process ends with a segmentation fault. So each type is prepared
here under a lock before its first use; later uses take no lock.
"""

from __future__ import annotations

import threading
from typing import Any, TypeVar, overload

import msgspec

T = TypeVar("T")

_preparing = threading.Lock()
_decoders: dict[object, msgspec.json.Decoder[Any]] = {}


@overload
def decode(data: bytes | str | msgspec.Raw, kind: type[T]) -> T: ...
@overload
def decode(data: bytes | str | msgspec.Raw, kind: Any) -> Any: ...
def decode(data: bytes | str | msgspec.Raw, kind: Any) -> Any:
    """Decode JSON.

    Raises
    ------
    msgspec.DecodeError, UnicodeDecodeError, RecursionError
        If it is invalid, or does not fit the type.
    """
    return decoder(kind).decode(data)


@overload
def convert(
    value: object, kind: type[T], *, strict: bool = True, from_attributes: bool = False
) -> T: ...
@overload
def convert(
    value: object, kind: Any, *, strict: bool = True, from_attributes: bool = False
) -> Any: ...
def convert(value: object, kind: Any, *, strict: bool = True, from_attributes: bool = False) -> Any:
    """Convert a value, with the options of :func:`msgspec.convert`.

    Raises
    ------
    msgspec.ValidationError
        If it does not fit the type.
    """
    decoder(kind)
    return msgspec.convert(value, kind, strict=strict, from_attributes=from_attributes)


@overload
def decoder(kind: type[T]) -> msgspec.json.Decoder[T]: ...
@overload
def decoder(kind: Any) -> msgspec.json.Decoder[Any]: ...
def decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    """Return the decoder of a type. Making it prepares the type and all types in it."""
    found = _decoders.get(kind)
    if found is None:
        with _preparing:
            found = _decoders[kind] = msgspec.json.Decoder(kind)
    return found
