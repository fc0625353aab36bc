"""Remove blobs that no row names any more, if the store allows it now."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from db.blobs.errors import BlobError

log = structlog.get_logger(__name__)


@contextmanager
def left_to_clean_up(event: str, **facts: object) -> Iterator[None]:
    """Log an ``event`` if the block cannot remove blobs.

    The request is done without it: no row names them, so the job `clean_up` removes them later.
    """
    try:
        yield
    except BlobError as error:
        log.warning(event, error=type(error).__name__, **facts)
