"""Requests that are refused because of their key, its limits, or an earlier request."""

from __future__ import annotations

from datetime import datetime

from actors.facts import rounding
from services.http.errors import RETRY_AFTER_S, ServiceError


class Unauthenticated(ServiceError):
    """The request has no valid API key: it is missing, unknown, revoked or expired, or its user is
    disabled.
    """

    status, name, title = 401, "unauthenticated", "A valid API key is required"
    advice = (
        "Send ``Authorization: Bearer clamor_...`` with your API key. An administrator can create "
        "one."
    )
    headers = {"WWW-Authenticate": 'Bearer realm="clamor"'}  # noqa: RUF012


class MissingScope(ServiceError):
    """The API key is valid, but lacks the scope for this operation.

    ``detail`` names the required scope.
    """

    status, name, title = 403, "missing-scope", "The API key lacks a required scope"
    advice = "Use a key that has the scope, or ask an administrator for one."
    headers = {  # noqa: RUF012
        "WWW-Authenticate": 'Bearer realm="clamor", error="insufficient_scope"'
    }


class QuotaExceeded(ServiceError):
    """You have used up your quota of analysed audio for this month, or recordings that are being
    analysed have reserved the rest.

    ``used_s``, ``reserved_s`` and ``limit_s`` are seconds of audio; the next month begins at
    ``renews_at``.
    """

    status, name, title = 403, "quota-exceeded", "Monthly quota exceeded"
    advice = (
        "Wait until ``renews_at``, or ask an administrator to raise the quota. Retrying earlier "
        "helps only while ``reserved_s`` is more than your recordings turn out to have."
    )

    def __init__(
        self, *, used_s: float, reserved_s: float, limit_s: float, renews_at: datetime
    ) -> None:
        reserved = f", and {reserved_s:.0f} are reserved" if reserved_s else ""
        super().__init__(
            f"{used_s:.0f} of {limit_s:.0f} seconds of audio are used{reserved}; the quota renews"
            f" at {renews_at:%Y-%m-%dT%H:%M:%SZ}"
        )
        self.extension = {
            "used_s": rounding.seconds(used_s),
            "reserved_s": rounding.seconds(reserved_s),
            "limit_s": limit_s,
            "renews_at": renews_at,
        }


class TooManyUnfinished(ServiceError):
    """You have as many unfinished sessions, exports or trainings as a user may have.

    ``limit`` names the limit as ``GET /v1/usage`` does, ``used`` and ``most`` are its numbers.
    """

    status, name, title = 429, "too-many-unfinished", "Too much unfinished work"
    advice = "Wait until some of it has ended, or cancel some, and retry."
    retry_after_s = RETRY_AFTER_S

    def __init__(self, limit: str, *, used: int, most: int) -> None:
        super().__init__(f"{used} of {most} {limit.replace('_', ' ')} are in use")
        self.extension = {"limit": limit, "used": used, "most": most}


class StorageQuotaExceeded(ServiceError):
    """Your stored recordings have as many bytes as those of a user may have.

    ``used`` and ``most`` are bytes.
    """

    status, name, title = 403, "storage-quota-exceeded", "Storage quota exceeded"
    advice = (
        "Wait until older recordings are removed, or ask an administrator to raise the limit "
        "(``CLAMOR_MAX_STORED_BYTES``)."
    )

    def __init__(self, limit: str, *, used: int, most: int) -> None:
        super().__init__(f"{used} of {most} {limit.replace('_', ' ')} are in use")
        self.extension = {"limit": limit, "used": used, "most": most}


class RateLimited(ServiceError):
    """The API key has exceeded its request rate.

    Every response reports the remaining requests in ``RateLimit`` and ``RateLimit-Policy``.
    """

    status, name, title = 429, "rate-limited", "Too many requests"
    advice = (
        "Retry after ``Retry-After`` seconds. If the key needs a higher rate, ask an administrator."
    )
    retry_after_s = 1

    def __init__(self, detail: str, *, retry_after_s: int) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s


class TooManyAtOnce(ServiceError):
    """You have as many uploads, downloads or event streams in progress as one user may have in one
    process of the server. ``detail`` says which; ``GET /v1/usage`` has the limits.
    """

    status, name, title = 429, "too-many-at-once", "Too many transfers at once"
    advice = (
        "Wait until some of them have ended, or retry after ``Retry-After`` seconds. Send fewer at "
        "once."
    )
    retry_after_s = 1


class InvalidIdempotencyKey(ServiceError):
    """The ``Idempotency-Key`` header is empty, repeated, longer than 255 characters, or contains
    characters that are not allowed.
    """

    status, name, title = 400, "invalid-idempotency-key", "Invalid Idempotency-Key header"
    advice = (
        "Send a single string of up to 255 visible ASCII characters, preferably in double quotes. "
        "A UUID works well."
    )


class RequestUnderWay(ServiceError):
    """A request with this ``Idempotency-Key`` is still being processed, or its process died a
    moment ago. This request had no effect.
    """

    status, name, title = 409, "request-under-way", "The same request is in progress"
    advice = (
        "Retry with the same key after ``Retry-After`` seconds. You will get the response of the "
        "first request."
    )
    retry_after_s = 1


class SecretNotShown(ServiceError):
    """The request with this ``Idempotency-Key`` succeeded. Its response contained a secret, which
    is not stored, so the response cannot be repeated.
    """

    status, name, title = 409, "secret-not-shown", "Done, but the secret cannot be shown again"
    advice = (
        "If you lost the first response, repeat the request with another ``Idempotency-Key`` and "
        "revoke what ``Location`` names, if present."
    )


class IdempotencyKeyReused(ServiceError):
    """This ``Idempotency-Key`` was used for a request with another method, path, query or body.

    This request had no effect.
    """

    status, name, title = 422, "idempotency-key-reused", "Idempotency-Key already used"
    advice = "Use a new key for each new request. Reuse a key only to repeat an unchanged request."
