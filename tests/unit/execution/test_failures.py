"""Which errors are permanent; foreign text never reaches callers."""

from __future__ import annotations

import errno
import re

import pytest
import sqlalchemy.exc
from dramatiq.middleware import Shutdown, TimeLimitExceeded

from actors.execution import failures
from actors.execution.failures import DeadlineExceeded, Permanent
from actors.outbound.errors import Unwell
from actors.science.errors import Undecodable
from db.blobs.errors import BlobMissing, StorageFull, StorageUnavailable

#: Stands in the text of every error below.
FOREIGN = "cannot fit 'int' into /secret/place of example.org"

PASSING = [
    OSError(errno.EIO, FOREIGN, "/secret/place"),
    ConnectionResetError(errno.ECONNRESET, FOREIGN),
    TimeoutError(FOREIGN),
    OSError(FOREIGN),
    StorageUnavailable(f"the blob store failed: {FOREIGN}"),
    sqlalchemy.exc.OperationalError(FOREIGN, {}, Exception(FOREIGN)),
    sqlalchemy.exc.IntegrityError(FOREIGN, {}, Exception(FOREIGN)),
    RuntimeError(FOREIGN),
    LookupError(FOREIGN),
    MemoryError(FOREIGN),
    AssertionError(),
    TimeLimitExceeded(FOREIGN),
    Shutdown(FOREIGN),
]


@pytest.mark.parametrize("error", PASSING, ids=lambda error: type(error).__name__)
def test_what_may_pass_is_kept_in_own_words(error: BaseException) -> None:
    failure = failures.judge(error)
    assert failure.problem is None
    assert failure.reason
    assert FOREIGN not in failure.reason
    assert "secret" not in failure.reason
    assert type(error).__name__ not in failure.reason
    assert failure.logged.startswith(type(error).__name__)
    given_up = failures.given_up("split", attempts=5, reason=failure.reason)
    assert FOREIGN not in given_up.problem["detail"]


@pytest.mark.parametrize(
    "error",
    [
        ValueError(FOREIGN),
        OverflowError(FOREIGN),
        ZeroDivisionError(FOREIGN),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, FOREIGN),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_would_come_again_is_permanent_at_once(error: Exception) -> None:
    failure = failures.judge(error)
    assert failure.problem is not None
    assert failure.problem["code"] == "internal-error"
    assert FOREIGN not in failure.problem["detail"]
    assert type(error).__name__ not in failure.problem["detail"]
    # The log has the details that a report needs.
    assert failure.logged.startswith(type(error).__name__)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Permanent("too-long", "too long"), "too-long"),
        (Undecodable(), "undecodable"),
        (BlobMissing(FOREIGN), "recording-missing"),
    ],
    ids=["permanent", "science", "missing"],
)
def test_what_is_known_to_be_permanent_has_its_code(error: Exception, code: str) -> None:
    failure = failures.judge(error)
    assert failure.problem is not None
    assert failure.problem["code"] == code
    assert failure.reason == failure.problem["detail"]
    assert FOREIGN not in failure.reason


def test_own_words_are_kept_as_they_are() -> None:
    for error in (DeadlineExceeded("it ran for 5 s"), Unwell("the server answered 503")):
        assert failures.judge(error).reason == str(error)


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        OSError(errno.EFBIG, "File too large"),
        StorageFull(),
    ],
)
def test_a_full_disk_is_named(error: Exception) -> None:
    reason = failures.judge(error).reason
    assert re.search("space|full", reason)
