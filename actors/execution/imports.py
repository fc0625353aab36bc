"""Import the libraries of a process that stays."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def lasting() -> Iterator[None]:
    """Import modules within the block, without collecting garbage.

    What modules create stays as long as the process. Searching it again and again for garbage takes
    a sixth of a worker's start, so the collector is off, and ignores it from then on.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
