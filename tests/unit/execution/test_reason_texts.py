"""The reasons of failed work that callers may read, in one file for review.

Other tests assert codes and figures. After a change of a text, write the file again:
``.venv/bin/python -m tests.unit.execution.test_reason_texts``
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path

import sqlalchemy.exc
from dramatiq.middleware import Shutdown, TimeLimitExceeded

from actors import worker  # noqa: F401  - defines the errors of everyday work
from actors.execution import failures
from actors.science.errors import ScienceError
from actors.training import train, validate  # noqa: F401  - and of training
from db.blobs.errors import BlobError, BlobMissing, StorageFull, StorageUnavailable
from tests.support import golden

GOLDEN = Path(__file__).parent / "golden" / "reasons.txt"

#: Errors of libraries and of the system, by what happened.
ERRORS: dict[str, BaseException] = {
    "the database is away": sqlalchemy.exc.OperationalError("", {}, Exception()),
    "the database refuses": sqlalchemy.exc.IntegrityError("", {}, Exception()),
    "the blob store is away": StorageUnavailable(),
    "the blob store is full": StorageFull(),
    "a blob cannot be read": BlobError(),
    "the recording is missing": BlobMissing(),
    "the disk is full": OSError(errno.ENOSPC, ""),
    "a file cannot be read": OSError(errno.EIO, ""),
    "the time limit": TimeLimitExceeded(),
    "a stop": Shutdown(),
    "a bug": ValueError(),
    "anything else": RuntimeError(),
}


def kinds(base: type[ScienceError] = ScienceError) -> Iterator[type[ScienceError]]:
    """Yield the errors of the science package, with those below each."""
    yield base
    for kind in base.__subclasses__():
        yield from kinds(kind)


def texts() -> dict[str, str]:
    """Return the reasons by case, those of recordings and models by code."""
    science = {kind.code: failures.judge(kind()).reason for kind in kinds()}
    return {
        **{name: failures.judge(error).reason for name, error in ERRORS.items()},
        "given up": str(failures.given_up("split", attempts=5, reason="...")),
        "given up without a reason": str(failures.given_up("split", attempts=5, reason=None)),
        **dict(sorted(science.items())),
    }


def test_the_reasons_are_those_that_were_reviewed() -> None:
    assert texts() == golden.read(GOLDEN)


if __name__ == "__main__":
    golden.write(GOLDEN, texts())
