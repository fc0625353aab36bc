"""Failures of the server or of its stores."""

from __future__ import annotations

from services.http.errors import RETRY_AFTER_S, ServiceError


class InternalError(ServiceError):
    """The server failed unexpectedly.

    The cause is in the server's log under the request ID.
    """

    status, name, title = 500, "internal-error", "Internal server error"
    advice = "Retry. If the error persists, give the ``request_id`` to the operator of the server."


class Stopping(ServiceError):
    """The process that received the request is shutting down, as in every deployment. Another
    process will answer.
    """

    status, name, title = 503, "stopping", "The server process is shutting down; retry shortly"
    advice = "Retry after ``Retry-After`` seconds."
    retry_after_s = RETRY_AFTER_S


class ServerBusy(ServiceError):
    """The process that received the request serves as many uploads, or downloads, as it can."""

    status, name, title = 503, "server-busy", "The server is busy; retry shortly"
    advice = "Retry after ``Retry-After`` seconds."
    retry_after_s = RETRY_AFTER_S


class TooManyStreams(ServiceError):
    """This process has reached its maximum number of open event streams."""

    status, name, title = 503, "too-many-streams", "Too many event streams"
    advice = "Poll the session instead, or retry after ``Retry-After`` seconds."
    retry_after_s = RETRY_AFTER_S


class StoreUnavailable(ServiceError):
    """The database or the blob store is temporarily unavailable."""

    status, name = 503, "store-unavailable"
    title = "Storage is temporarily unavailable; retry shortly"
    advice = (
        "Retry after ``Retry-After`` seconds. A ``POST`` with an ``Idempotency-Key`` is safe to "
        "repeat."
    )
    retry_after_s = RETRY_AFTER_S
