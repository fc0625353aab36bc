"""The errors of the API: one class per problem type, with the texts that callers read.

A problem's ``type`` (``/problems/`` and its ``name``) is its stable identifier, ``title`` the same
for people, and the message of an error describes the single occurrence. The docstring of a class
and its ``advice`` make up its documentation page, so they are written for the caller.
:mod:`services.http.problems` turns errors into responses.

The module is a list with one short entry per problem type, hence its length.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, ClassVar, Self

import msgspec

from actors.facts import rounding

#: Default ``Retry-After`` of problems that may pass.
RETRY_AFTER_S = 5


class UserError(Exception):
    """An error that the user of the command line can fix; the message says how."""


class FieldError(msgspec.Struct):
    """One invalid field and the reason; an empty name means the input as a whole."""

    field: str
    detail: str


class ServiceError(Exception):
    """A request that cannot be served.

    ::

        ServiceError
        ├── InvalidFields          fields are named
        │   ├── InvalidParameter    400
        │   ├── InvalidBody         400
        │   ├── InvalidForm         400
        │   ├── InvalidManifest     400
        │   ├── InvalidOptions      400
        │   └── SourceRefused       400
        ├── BadRequest              400
        ├── InvalidHeader           400
        ├── EmptyUpload             400
        ├── IncompleteUpload        400
        ├── InvalidIdempotencyKey   400
        ├── Unauthenticated         401
        ├── MissingScope            403
        ├── QuotaExceeded           403
        ├── UnknownRoute            404
        ├── BatchNotFound           404
        ├── ExportNotFound          404
        ├── JobNotFound             404
        ├── KeyNotFound             404
        ├── ModelNotFound           404
        ├── ReportNotFound          404
        ├── SessionNotFound         404
        ├── TrainingNotFound        404
        ├── UploadNotFound          404
        ├── UserNotFound            404
        ├── ValidationNotFound      404
        ├── WebhookNotFound         404
        ├── DeliveryNotFound        404
        ├── NoAnalysis              404
        ├── NoLevels                404
        ├── NoRecording             404
        ├── NoSpectrogram           404
        ├── MethodNotAllowed        405
        ├── AlreadyFinished         409
        ├── BatchClosed             409
        ├── BatchExists             409
        ├── ExportNotDone           409
        ├── ModelDamaged            409
        ├── NoDirectUploads         409
        ├── NotFinished             409
        ├── NotGivenUp              409
        ├── Regression              409
        ├── TooManyKeys             409
        ├── TooManyWebhooks         409
        ├── WebhookDisabled         409
        ├── UserExists              409
        ├── RequestUnderWay         409
        ├── SecretNotShown          409
        ├── ExportExpired           410
        ├── LengthRequired          411
        ├── BodyTooLarge            413
        ├── TooManyFiles            413
        ├── UploadTooLarge          413
        ├── UnknownFormat           415
        ├── UnsupportedMediaType    415
        ├── UnsupportedUpload       415
        ├── RangeNotSatisfiable     416
        ├── IdempotencyKeyReused    422
        ├── RateLimited             429
        ├── InternalError           500
        ├── Stopping                503
        ├── StoreUnavailable        503
        └── TooManyStreams          503
    """

    status: ClassVar[int]
    name: ClassVar[str]
    title: ClassVar[str]
    #: What the caller can do about the problem.
    advice: ClassVar[str] = ""
    #: Additional members of the problem.
    extension: dict[str, Any] = {}  # noqa: RUF012  (never changed)
    #: Headers of the response.
    headers: dict[str, str] = {}  # noqa: RUF012  (never changed)
    #: Seconds until a retry may succeed; None if a retry does not help.
    retry_after_s: int | None = None


def kinds() -> list[type[ServiceError]]:
    """Return all problem classes, sorted by name."""
    found: list[type[ServiceError]] = []
    below = [ServiceError]
    while below:
        kind = below.pop()
        below += kind.__subclasses__()
        if "name" in vars(kind):
            found.append(kind)
    return sorted(found, key=lambda kind: kind.name)


class InvalidFields(ServiceError):
    """Some fields are invalid; ``errors`` lists each of them."""

    @classmethod
    def of(cls, errors: Sequence[FieldError], *, detail: str | None = None) -> Self:
        """Build the error from invalid fields; ``detail`` defaults to all of them in one line."""
        told = "; ".join(
            f"'{each.field}': {each.detail}" if each.field else each.detail for each in errors
        )
        made = cls(told if detail is None else detail)
        made.extension = {"errors": list(errors)}
        return made


class BadRequest(ServiceError):
    """The server cannot parse the request as HTTP, for example because the method is unknown."""

    status, name, title = 400, "bad-request", "Malformed HTTP request"
    advice = "Check how the request is built; a standard HTTP library builds this correctly."


class InvalidHeader(ServiceError):
    """A header is missing or malformed."""

    status, name, title = 400, "invalid-header", "Invalid header"
    advice = "Correct the header that ``detail`` names."


class InvalidParameter(InvalidFields):
    """A query parameter has an invalid value, is missing, was given twice, or does not exist at
    this endpoint. Unknown parameters are rejected rather than ignored, so that a misspelt one is
    noticed.
    """

    status, name, title = 400, "invalid-parameter", "Invalid query parameter"
    advice = "Correct each parameter listed in ``errors``."


class InvalidBody(InvalidFields):
    """The JSON body cannot be parsed, or one of its fields is missing, unknown or invalid."""

    status, name, title = 400, "invalid-body", "Invalid request body"
    advice = (
        "Correct each field listed in ``errors``, which gives its path in the body, such as "
        "``scopes[0]``."
    )


class InvalidForm(InvalidFields):
    """The form (multipart/form-data) is incomplete or malformed, or one of its fields is missing,
    unknown or repeated.
    """

    status, name, title = 400, "invalid-form", "Invalid form"
    advice = (
        "Correct the fields listed in ``errors``, if any. An incomplete form was often cut off by "
        "a proxy or a timeout: send it again."
    )


class InvalidManifest(InvalidFields):
    """The manifest of a labelled set is not CSV, lacks a column, or has invalid lines."""

    status, name, title = 400, "invalid-manifest", "Invalid manifest"
    advice = (
        "Correct the lines listed in ``errors`` (``manifest[3]`` is the third line of the file). "
        "At most ten are listed at a time."
    )


class InvalidOptions(InvalidFields):
    """The form field ``options`` is not a valid JSON object of options."""

    status, name, title = 400, "invalid-options", "Invalid options"
    advice = "Correct each field listed in ``errors`` by its path in the options."


class EmptyUpload(ServiceError):
    """The body is empty, or the form has no file in its field ``file``."""

    status, name, title = 400, "empty-upload", "The request contains no recording"
    advice = "Send the recording as the raw body, or as a file in the form field ``file``."


class IncompleteUpload(ServiceError):
    """The body ended before the announced length. Nothing was stored."""

    status, name, title = 400, "incomplete-upload", "Incomplete upload"
    advice = "The connection broke, or ``Content-Length`` was wrong. Send the recording again."


class SourceRefused(InvalidFields):
    """The server does not fetch recordings from this address: it is not an http or https URL, has
    a user name or a password, uses a port of a non-web service, or is not a public address.
    """

    status, name, title = 400, "source-refused", "Source address not allowed"
    advice = (
        "Use a publicly reachable address, or upload the recording itself. An operator can allow "
        "private networks (``CLAMOR_ALLOW_PRIVATE_ADDRESSES``)."
    )


class InvalidIdempotencyKey(ServiceError):
    """The ``Idempotency-Key`` header is empty, repeated, longer than 255 characters, or contains
    characters that are not allowed.
    """

    status, name, title = 400, "invalid-idempotency-key", "Invalid Idempotency-Key header"
    advice = (
        "Send a single string of up to 255 visible ASCII characters, preferably in double quotes. "
        "A UUID works well."
    )


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
    """You have used up your quota of analysed audio for this month.

    ``used_s`` and ``limit_s`` are seconds of audio; the next month begins at ``renews_at``.
    """

    status, name, title = 403, "quota-exceeded", "Monthly quota exceeded"
    advice = (
        "Wait until ``renews_at``, or ask an administrator to raise the quota. Retrying earlier "
        "does not help."
    )

    def __init__(self, *, used_s: float, limit_s: float, renews_at: datetime) -> None:
        super().__init__(
            f"{used_s:.0f} of {limit_s:.0f} seconds of audio are used; the quota renews at"
            f" {renews_at:%Y-%m-%dT%H:%M:%SZ}"
        )
        self.extension = {
            "used_s": rounding.seconds(used_s),
            "limit_s": limit_s,
            "renews_at": renews_at,
        }


class UnknownRoute(ServiceError):
    """The API has no endpoint at this path. A malformed ID in the path has the same effect."""

    status, name, title = 404, "unknown-route", "No endpoint at this path"
    advice = "Compare the path with the API documentation."


class BatchNotFound(ServiceError):
    """No batch with this ID is visible to you.

    It does not exist, has been removed, or belongs to another user; all three cases get the same
    answer.
    """

    status, name, title = 404, "batch-not-found", "Batch not found"
    advice = "Check the ID and make sure you are using the right API key."


class ExportNotFound(ServiceError):
    """No export with this ID is visible to you.

    It does not exist, has been removed, or belongs to another user; all three cases get the same
    answer.
    """

    status, name, title = 404, "export-not-found", "Export not found"
    advice = (
        "Check the ID and make sure you are using the right API key. "
        "Exports are removed after some days."
    )


class JobNotFound(ServiceError):
    """There is no scheduled job with this name."""

    status, name, title = 404, "job-not-found", "Job not found"
    advice = "List the jobs with ``GET /v1/jobs`` or ``clamor schedule``."


class KeyNotFound(ServiceError):
    """No key with this ID is visible to you.

    It does not exist, has been removed, or belongs to another user; all three cases get the same
    answer.
    """

    status, name, title = 404, "key-not-found", "Key not found"
    advice = "Check the ID and make sure you are using the right API key."


class ModelNotFound(ServiceError):
    """No model with this ID is visible to you.

    It does not exist, has been removed, or belongs to another user; all three cases get the same
    answer.
    """

    status, name, title = 404, "model-not-found", "Model not found"
    advice = "Check the ID and make sure you are using the right API key."


class ReportNotFound(ServiceError):
    """No report with this ID is visible to you.

    It does not exist, has been removed, or belongs to another user; all three cases get the same
    answer.
    """

    status, name, title = 404, "report-not-found", "Report not found"
    advice = "Check the ID and make sure you are using the right API key."


class SessionNotFound(ServiceError):
    """No session with this ID is visible to you.

    It does not exist, has been removed, or belongs to another user; all three cases get the same
    answer.
    """

    status, name, title = 404, "session-not-found", "Session not found"
    advice = "Check the ID and make sure you are using the right API key."


class TrainingNotFound(ServiceError):
    """No training with this ID is visible to you.

    It does not exist, has been removed, or belongs to another user; all three cases get the same
    answer.
    """

    status, name, title = 404, "training-not-found", "Training not found"
    advice = "Check the ID and make sure you are using the right API key."


class UserNotFound(ServiceError):
    """No user with this ID is visible to you.

    It does not exist, has been removed, or belongs to another user; all three cases get the same
    answer.
    """

    status, name, title = 404, "user-not-found", "User not found"
    advice = "Check the ID and make sure you are using the right API key."


class UploadNotFound(ServiceError):
    """You have not stored a file for this upload, or no session was created from the file in time
    and it was removed.
    """

    status, name, title = 404, "upload-not-found", "Upload not found"
    advice = (
        "PUT the recording to the upload's ``url`` within the hour, then create the session from "
        "it."
    )


class ValidationNotFound(ServiceError):
    """No validation with this ID is visible to you.

    It does not exist, has been removed, or belongs to another user; all three cases get the same
    answer.
    """

    status, name, title = 404, "validation-not-found", "Validation not found"
    advice = "Check the ID and make sure you are using the right API key."


class WebhookNotFound(ServiceError):
    """No webhook with this ID is visible to you.

    It does not exist, has been removed, or belongs to another user; all three cases get the same
    answer.
    """

    status, name, title = 404, "webhook-not-found", "Webhook not found"
    advice = "Check the ID and make sure you are using the right API key."


class DeliveryNotFound(ServiceError):
    """The webhook has no delivery with this ID. Deliveries are removed after 30 days."""

    status, name, title = 404, "delivery-not-found", "Delivery not found"
    advice = "Check the ID against the list of the webhook's deliveries."


class NoAnalysis(ServiceError):
    """The session has no analysis: it has not finished, it failed or was cancelled, or it is older
    than the feature.
    """

    status, name, title = 404, "no-analysis", "The session has no analysis"
    advice = "Once the session has finished, request an analysis with a POST to the same path."


class NoLevels(ServiceError):
    """The session ended without levels, because it failed or was cancelled before they were
    measured, or the levels are no longer stored.
    """

    status, name, title = 404, "no-levels", "The session has no levels"
    advice = "Read the session to see how it ended."


class NoRecording(ServiceError):
    """The recording of the session is no longer stored. Recordings are kept for a limited time;
    with ``privacy`` they are not kept at all, or only as a copy without speech.
    """

    status, name, title = 404, "no-recording", "The recording is no longer stored"
    advice = "The results are still available from the session and its detections."


class NoSpectrogram(ServiceError):
    """The session ended without a spectrogram: it failed or was cancelled before one was drawn,
    its ``privacy`` does not allow one, or it is older than the feature.
    """

    status, name, title = 404, "no-spectrogram", "The session has no spectrogram"
    advice = "Read the session to see how it ended."


class MethodNotAllowed(ServiceError):
    """The endpoint at this path does not support this method."""

    status, name, title = 405, "method-not-allowed", "Method not allowed"
    advice = "Use one of the methods in the ``Allow`` header."


class AlreadyFinished(ServiceError):
    """A session or batch that has finished cannot be cancelled."""

    status, name, title = 409, "already-finished", "Already finished"
    advice = "No action is needed."


class BatchClosed(ServiceError):
    """The batch was cancelled during the upload, or no data arrived for too long.

    Recordings that arrived before that were accepted.
    """

    status, name, title = 409, "batch-closed", "The batch is closed"
    advice = "Send the remaining recordings as another batch."


class BatchExists(ServiceError):
    """Another batch has the ID that you chose."""

    status, name, title = 409, "batch-exists", "Batch ID already in use"
    advice = (
        "Choose another ID. If an earlier attempt at this request may have created the batch, "
        "read that batch first."
    )


class ExportNotDone(ServiceError):
    """The export's file is not ready, or the export failed; ``detail`` says which."""

    status, name, title = 409, "export-not-done", "The export has no file"
    advice = "Poll the export and download its file once it is ``completed``."


class NoDirectUploads(ServiceError):
    """This installation stores recordings in a folder, which has no upload addresses."""

    status, name, title = 409, "no-direct-uploads", "Direct uploads are not available"
    advice = "Post the recording itself to ``/v1/sessions``."


class ModelDamaged(ServiceError):
    """The model's file is missing, or its hash differs from the registered one."""

    status, name, title = 409, "model-damaged", "The model's file is damaged"
    advice = "Train the model again, or ask an operator to restore the file from a backup."


class NotFinished(ServiceError):
    """The requested data becomes available when processing has finished."""

    status, name, title = 409, "not-finished", "Not finished yet"
    advice = "Poll until processing has finished, then repeat the request."


class NotGivenUp(ServiceError):
    """Only a session that was given up can be retried: one that ended as ``failed`` with the code
    ``given-up`` or ``nothing-heard``. With ``privacy``, the recording is gone and cannot be
    processed again.
    """

    status, name, title = 409, "not-given-up", "The session cannot be retried"
    advice = "To process the recording again, post it as a new session."


class Regression(ServiceError):
    """The model was not put to use. It cannot detect noise types that the one in use can
    (``lost_noise_types``), or figures that both models have are worse than those of the one in use.
    ``comparison`` has all of them.
    """

    status, name, title = 409, "regression", "The model is worse than the one in use"
    advice = 'Check ``comparison``. To use the model all the same, send ``{"force": true}``.'

    def __init__(self, detail: str, *, comparison: dict[str, Any]) -> None:
        super().__init__(detail)
        self.extension = {"comparison": comparison}


class TooManyKeys(ServiceError):
    """A user can have at most two active keys with the same name: the one in use and its
    replacement.
    """

    status, name, title = 409, "too-many-keys", "Too many active keys with this name"
    advice = "Revoke one of the keys, or choose another name."


class TooManyWebhooks(ServiceError):
    """The user has reached the maximum number of webhooks."""

    status, name, title = 409, "too-many-webhooks", "Too many webhooks"
    advice = "Delete a webhook you no longer need, or change its address instead."


class WebhookDisabled(ServiceError):
    """The webhook receives no deliveries: its receiver was gone or failed for too long, or its
    owner disabled it. ``detail`` says which.
    """

    status, name, title = 409, "webhook-disabled", "The webhook is disabled"
    advice = 'Enable it with ``PATCH`` and ``{"enabled": true}``.'


class UserExists(ServiceError):
    """A user, possibly a disabled one, already has this e-mail address."""

    status, name, title = 409, "user-exists", "E-mail address already in use"
    advice = "Use the existing user, or another address."


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


class ExportExpired(ServiceError):
    """The export's file was kept for some days and has expired. The export itself is removed soon
    after.
    """

    status, name, title = 410, "export-expired", "The export has expired"
    advice = "Request the export again: the same request produces the same file."


class LengthRequired(ServiceError):
    """A recording sent as the raw body must announce its length. Without it, a client that
    disconnects in the middle of a chunked body looks the same as one that has finished.
    """

    status, name, title = 411, "length-required", "Content-Length required"
    advice = "Send ``Content-Length``, or send the recording as a form."


class BodyTooLarge(ServiceError):
    """The JSON body is larger than allowed."""

    status, name, title = 413, "body-too-large", "Request body too large"
    advice = "Send less per request; ``detail`` gives the limit."


class TooManyFiles(ServiceError):
    """The batch has more recordings than this server accepts at once."""

    status, name, title = 413, "too-many-files", "Too many recordings"
    advice = "Split the recordings into several batches; ``detail`` gives the limit."


class UploadTooLarge(ServiceError):
    """The recording, or the files of a form together, are larger than this server accepts."""

    status, name, title = 413, "upload-too-large", "Upload too large"
    advice = "Send a compressed format such as FLAC, or split the recording."


class UnsupportedMediaType(ServiceError):
    """This endpoint does not accept a body of this media type."""

    status, name, title = 415, "unsupported-media-type", "Unsupported media type"
    advice = "Send the media type that ``detail`` names."


class UnknownFormat(ServiceError):
    """The first bytes of the recording match no supported audio format; its name and media type
    are not considered. Nothing was stored.
    """

    status, name, title = 415, "unknown-format", "Unknown audio format"
    advice = (
        "Send WAV, RF64, W64, AIFF, FLAC, Ogg, MP3, MP4/M4A, AAC or WebM. A form needs the media "
        "type ``multipart/form-data``, and JSON ``application/json``."
    )


class UnsupportedUpload(ServiceError):
    """This endpoint accepts a form with files, and the body has another media type."""

    status, name, title = 415, "unsupported-upload", "A form is required"
    advice = "Send ``multipart/form-data``."


class RangeNotSatisfiable(ServiceError):
    """The ``Range`` header selects no part of the recording."""

    status, name = 416, "range-not-satisfiable"
    title = "Range not satisfiable: it starts past the end of the file"
    advice = "Request a range within the size given in the ``Content-Range`` header."

    def __init__(self, detail: str, *, size_bytes: int) -> None:
        super().__init__(detail)
        self.headers = {"Content-Range": f"bytes */{size_bytes}"}


class IdempotencyKeyReused(ServiceError):
    """This ``Idempotency-Key`` was used for a request with another method, path, query or body.

    This request had no effect.
    """

    status, name, title = 422, "idempotency-key-reused", "Idempotency-Key already used"
    advice = "Use a new key for each new request. Reuse a key only to repeat an unchanged request."


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


class StoreUnavailable(ServiceError):
    """The database or the blob store is temporarily unavailable."""

    status, name = 503, "store-unavailable"
    title = "Storage is temporarily unavailable; retry shortly"
    advice = (
        "Retry after ``Retry-After`` seconds. A ``POST`` with an ``Idempotency-Key`` is safe to "
        "repeat."
    )
    retry_after_s = RETRY_AFTER_S


class TooManyStreams(ServiceError):
    """This process has reached its maximum number of open event streams."""

    status, name, title = 503, "too-many-streams", "Too many event streams"
    advice = "Poll the session instead, or retry after ``Retry-After`` seconds."
    retry_after_s = RETRY_AFTER_S
