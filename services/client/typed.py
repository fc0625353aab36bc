"""Decode responses, safely for callers with several threads (as ``db/typed.py`` does)."""

from __future__ import annotations

import threading
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")

_preparing = threading.Lock()
_decoders: dict[type, msgspec.json.Decoder[Any]] = {}


def decode(data: bytes | str, kind: type[T]) -> T:
    """Decode JSON; raises :class:`msgspec.DecodeError`."""
    decoder: msgspec.json.Decoder[T] | None = _decoders.get(kind)
    if decoder is None:
        # msgspec collects the fields of a type at its first use. If two threads do so at once, the
        # process ends with a segmentation fault.
        with _preparing:
            decoder = _decoders[kind] = msgspec.json.Decoder(kind)
    return decoder.decode(data)
