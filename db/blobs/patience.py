"""How long calls to a store may take: no deadline of a caller can interrupt them."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple, cast

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

MOST_RETRIES = 8
#: The library's variables for its HTTP client. It ignores them once code gives one of the options.
_CLIENT_VARIABLES = (
    "ALLOW_HTTP",
    "ALLOW_INVALID_CERTIFICATES",
    "CONNECT_TIMEOUT",
    "PROXY_CA_CERTIFICATE",
    "PROXY_EXCLUDES",
    "PROXY_URL",
    "ROOT_CERTIFICATE",
    "TIMEOUT",
    "USER_AGENT",
)


class Patience(NamedTuple):
    """The bounds of one call.

    To a bucket, the last attempt begins before ``retries_s`` have passed, and ends ``attempt_s``
    later. The variable ``AWS_TIMEOUT`` replaces ``attempt_s``. A call to a folder is made once.
    """

    attempt_s: float
    retries_s: float

    def client(self) -> ClientConfig:
        """Return the options of the library's HTTP client, with those of the environment."""
        given = {
            name.lower(): os.environ[f"AWS_{name}"]
            for name in _CLIENT_VARIABLES
            if f"AWS_{name}" in os.environ
        }
        ours = {"timeout": f"{self.attempt_s * 1_000:.0f} ms"}
        return cast("ClientConfig", ours | given)

    def retries(self) -> RetryConfig:
        """Return the options of the library's retries."""
        return {
            "max_retries": MOST_RETRIES,
            "retry_timeout": timedelta(seconds=self.retries_s),
        }


#: Of a worker: below the shortest deadline of a step. If the store is unavailable for longer, the
#: step fails and is retried later.
OF_WORKERS = Patience(attempt_s=20.0, retries_s=20.0)
#: Of a request, which is then answered 503 within eight seconds. A part of an upload, 5 MiB, must
#: be stored in the time of one attempt.
OF_REQUESTS = Patience(attempt_s=5.0, retries_s=2.0)
