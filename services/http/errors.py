"""What may go wrong: a class each, with what its caller reads of it.

A problem's ``type`` (its ``name`` below ``/problems/``) is its stable name; ``title`` says the same
to a person; the message of an error speaks of this one occurrence. The docstring of a class and its
``advice`` are its page of documentation: they are written for whoever meets it. How errors are
answered is in :mod:`services.http.problems`.

This is a list, and as long as there are things to go wrong; each entry is a few lines.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, ClassVar, Self

import msgspec

from actors.facts import rounding

#: What a caller is asked to wait where another try may help.
RETRY_AFTER_S = 5


class UserError(Exception):
    """Something that the person at the terminal can mend; the message tells what."""


class FieldError(msgspec.Struct):
    """What is wrong with one field; an empty name stands for the whole."""

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
    #: What the caller can do about it.
    advice: ClassVar[str] = ""
    #: What the problem bears beside its own members.
    extension: dict[str, Any] = {}  # noqa: RUF012  (never changed)
    #: Headers of the answer.
    headers: dict[str, str] = {}  # noqa: RUF012  (never changed)
    #: After how many seconds another try may help; None where it does not help.
    retry_after_s: int | None = None


def kinds() -> list[type[ServiceError]]:
    """Every kind of problem, by name."""
    found: list[type[ServiceError]] = []
    below = [ServiceError]
    while below:
        kind = below.pop()
        below += kind.__subclasses__()
        if "name" in vars(kind):
            found.append(kind)
    return sorted(found, key=lambda kind: kind.name)


class InvalidFields(ServiceError):
    """Fields are not what they must be; each is named in ``errors``."""

    @classmethod
    def of(cls, errors: Sequence[FieldError], *, detail: str | None = None) -> Self:
        """The refusal of some fields; ``detail`` says the same in a sentence."""
        told = "; ".join(
            f"'{each.field}': {each.detail}" if each.field else each.detail for each in errors
        )
        made = cls(told if detail is None else detail)
        made.extension = {"errors": list(errors)}
        return made


class BadRequest(ServiceError):
    """The request is no HTTP that this server understands, such as a method that there is not."""

    status, name, title = 400, "bad-request", "The request is not understood"
    advice = "Look at how the request was put together; a common HTTP library does this rightly."


class InvalidHeader(ServiceError):
    """A header is missing, or its value is not of the form that the header has."""

    status, name, title = 400, "invalid-header", "A header is not what it must be"
    advice = "``detail`` names the header."


class InvalidParameter(InvalidFields):
    """A parameter of the query has a value that it cannot have, is missing, was given twice, or is
    not a parameter of this endpoint at all. Parameters that are not known are refused rather than
    passed over, so that a misspelt one does not go unnoticed.
    """

    status, name, title = 400, "invalid-parameter", "A parameter is not what it must be"
    advice = "``errors`` names each parameter, and says what is wrong with it."


class InvalidBody(InvalidFields):
    """The JSON body cannot be read, or a field of it is missing, not known, or has a value that it
    cannot have.
    """

    status, name, title = 400, "invalid-body", "The body is not what it must be"
    advice = "``errors`` names the field by its path in the body, such as ``scopes[0]``."


class InvalidForm(InvalidFields):
    """The form (multipart/form-data) breaks off or is malformed, or a field of it is missing, not
    known, or there twice.
    """

    status, name, title = 400, "invalid-form", "The form is not what it must be"
    advice = (
        "``errors`` names the field, where it is one. A form that breaks off was often cut by a "
        "proxy or a timeout: send it again."
    )


class InvalidManifest(InvalidFields):
    """The manifest of a labelled set is no CSV, lacks a column, or has lines that are not right."""

    status, name, title = 400, "invalid-manifest", "The manifest cannot be used"
    advice = (
        "``errors`` names the lines (``manifest[3]`` is its third line) and what is wrong with "
        "each; at most ten are told at once."
    )


class InvalidOptions(InvalidFields):
    """The field ``options`` of a form is not the JSON object that it must be."""

    status, name, title = 400, "invalid-options", "The options cannot be used"
    advice = "``errors`` names the field by its path in the options."


class EmptyUpload(ServiceError):
    """The body is empty, or the form has no file in its field ``file``."""

    status, name, title = 400, "empty-upload", "The request bears no recording"
    advice = "Send the recording as the raw body, or as a file in the field ``file`` of a form."


class IncompleteUpload(ServiceError):
    """The body ended before the length that it had announced. Nothing of it was kept."""

    status, name, title = 400, "incomplete-upload", "The body ended too early"
    advice = "The connection broke, or ``Content-Length`` was wrong. Send it again."


class SourceRefused(InvalidFields):
    """A recording is not fetched from this address: it is no http or https URL, has a user name or
    a password, a port of something else than the web, or is an address that is not public.
    """

    status, name, title = 400, "source-refused", "The address cannot be fetched from"
    advice = (
        "Give an address that everybody can reach, or post the recording itself. An operator can "
        "allow private networks (``CLAMOR_ALLOW_PRIVATE_ADDRESSES``)."
    )


class InvalidIdempotencyKey(ServiceError):
    """The header ``Idempotency-Key`` is no key: it is empty, longer than 255 characters, there
    twice, or has characters that it cannot have.
    """

    status, name, title = 400, "invalid-idempotency-key", "This is no Idempotency-Key"
    advice = (
        "Send one string of up to 255 visible ASCII characters, best in double quotes; a UUID "
        "does well."
    )


class Unauthenticated(ServiceError):
    """No key was shown, or one that is not taken: it is not known, was revoked, has expired, or its
    user is disabled.
    """

    status, name, title = 401, "unauthenticated", "A key is needed"
    advice = (
        "Send ``Authorization: Bearer clamor_...`` with a key of yours; an administrator can make "
        "one."
    )
    headers = {"WWW-Authenticate": 'Bearer realm="clamor"'}  # noqa: RUF012


class MissingScope(ServiceError):
    """The key is known, but is not allowed to do this.

    ``detail`` names the scope that is needed.
    """

    status, name, title = 403, "missing-scope", "The key does not allow this"
    advice = "Use a key that has the scope, or have one made."
    headers = {  # noqa: RUF012
        "WWW-Authenticate": 'Bearer realm="clamor", error="insufficient_scope"'
    }


class QuotaExceeded(ServiceError):
    """The user has had as much audio analysed this month as they may.

    ``used_s`` and ``limit_s`` are seconds of audio, and the next month begins at ``renews_at``.
    """

    status, name, title = 403, "quota-exceeded", "The quota of this month is used up"
    advice = (
        "Wait until ``renews_at``, or have the quota raised. Trying again does not help before."
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
    """The API has no endpoint at this path; an id in it that is no id makes such a path, too."""

    status, name, title = 404, "unknown-route", "There is nothing at this path"
    advice = "Compare the path with the documentation of the API."


class BatchNotFound(ServiceError):
    """There is no batch of this id that the caller may see.

    It does not exist, or no longer, or belongs to somebody else: which of these is not told.
    """

    status, name, title = 404, "batch-not-found", "There is no such batch"
    advice = "Look at the id, and at whose key is shown."


class ExportNotFound(ServiceError):
    """There is no export of this id that the caller may see.

    It does not exist, or no longer, or belongs to somebody else: which of these is not told.
    """

    status, name, title = 404, "export-not-found", "There is no such export"
    advice = "Look at the id, and at whose key is shown. Exports are removed after some days."


class JobNotFound(ServiceError):
    """The clock has no job of this name."""

    status, name, title = 404, "job-not-found", "There is no such job"
    advice = "Ask for the list of jobs: GET /v1/jobs, or clamor schedule."


class KeyNotFound(ServiceError):
    """There is no key of this id that the caller may see.

    It does not exist, or no longer, or belongs to somebody else: which of these is not told.
    """

    status, name, title = 404, "key-not-found", "There is no such key"
    advice = "Look at the id, and at whose key is shown."


class ModelNotFound(ServiceError):
    """There is no model of this id that the caller may see.

    It does not exist, or no longer, or belongs to somebody else: which of these is not told.
    """

    status, name, title = 404, "model-not-found", "There is no such model"
    advice = "Look at the id, and at whose key is shown."


class ReportNotFound(ServiceError):
    """There is no report of this id that the caller may see.

    It does not exist, or no longer, or belongs to somebody else: which of these is not told.
    """

    status, name, title = 404, "report-not-found", "There is no such report"
    advice = "Look at the id, and at whose key is shown."


class SessionNotFound(ServiceError):
    """There is no session of this id that the caller may see.

    It does not exist, or no longer, or belongs to somebody else: which of these is not told.
    """

    status, name, title = 404, "session-not-found", "There is no such session"
    advice = "Look at the id, and at whose key is shown."


class TrainingNotFound(ServiceError):
    """There is no training of this id that the caller may see.

    It does not exist, or no longer, or belongs to somebody else: which of these is not told.
    """

    status, name, title = 404, "training-not-found", "There is no such training"
    advice = "Look at the id, and at whose key is shown."


class UserNotFound(ServiceError):
    """There is no user of this id that the caller may see.

    It does not exist, or no longer, or belongs to somebody else: which of these is not told.
    """

    status, name, title = 404, "user-not-found", "There is no such user"
    advice = "Look at the id, and at whose key is shown."


class UploadNotFound(ServiceError):
    """Nothing of the caller's was put into the store for this upload, or it waited for too long
    and was removed.
    """

    status, name, title = 404, "upload-not-found", "There is no such upload"
    advice = "PUT the recording to the upload's ``url`` first, within the hour, and claim it then."


class ValidationNotFound(ServiceError):
    """There is no validation of this id that the caller may see.

    It does not exist, or no longer, or belongs to somebody else: which of these is not told.
    """

    status, name, title = 404, "validation-not-found", "There is no such validation"
    advice = "Look at the id, and at whose key is shown."


class WebhookNotFound(ServiceError):
    """There is no webhook of this id that the caller may see.

    It does not exist, or no longer, or belongs to somebody else: which of these is not told.
    """

    status, name, title = 404, "webhook-not-found", "There is no such webhook"
    advice = "Look at the id, and at whose key is shown."


class DeliveryNotFound(ServiceError):
    """The webhook has no delivery of this id, or no longer: deliveries are kept for 30 days."""

    status, name, title = 404, "delivery-not-found", "There is no such delivery"
    advice = "Look at the id, and at the webhook's deliveries."


class NoAnalysis(ServiceError):
    """The session has no analysis: it has not ended, it failed or was cancelled, or it ended before
    sessions were analysed.
    """

    status, name, title = 404, "no-analysis", "The session has no analysis"
    advice = "Ask for one, once the session has ended: POST to the same path."


class NoLevels(ServiceError):
    """The session ended without levels: it failed or was cancelled before they were measured, or
    they are no longer stored.
    """

    status, name, title = 404, "no-levels", "The session has no levels"
    advice = "The session itself says how it ended."


class NoRecording(ServiceError):
    """The recording of the session is no longer stored: recordings are kept for a while only, and
    with ``privacy`` not at all, or only as a copy without speech.
    """

    status, name, title = 404, "no-recording", "The recording is no longer there"
    advice = "What was heard in it is still in the session and its detections."


class NoSpectrogram(ServiceError):
    """The session ended without a picture: it failed or was cancelled before one was drawn, its
    ``privacy`` allows none, or it is from before pictures were drawn.
    """

    status, name, title = 404, "no-spectrogram", "The session has no spectrogram"
    advice = "The session itself says how it ended."


class MethodNotAllowed(ServiceError):
    """There is something at this path, but it does not answer to this method."""

    status, name, title = 405, "method-not-allowed", "The method is not allowed here"
    advice = "The header ``Allow`` lists the methods that it answers to."


class AlreadyFinished(ServiceError):
    """What is at its end cannot be cancelled."""

    status, name, title = 409, "already-finished", "It has already finished"
    advice = "Nothing needs to be done."


class BatchClosed(ServiceError):
    """The batch was cancelled while its recordings came in, or nothing came for too long.

    What had come before was taken.
    """

    status, name, title = 409, "batch-closed", "The batch takes no more recordings"
    advice = "Send the rest as another batch."


class BatchExists(ServiceError):
    """The id that was chosen for the batch is that of another one."""

    status, name, title = 409, "batch-exists", "There is a batch of this id already"
    advice = (
        "Choose another id. If an earlier try of the same request may have made it, look at it."
    )


class ExportNotDone(ServiceError):
    """The file of the export is not there yet, or could not be made: ``detail`` says which."""

    status, name, title = 409, "export-not-done", "The export has no file"
    advice = "Follow the export, and fetch its file when it is ``completed``."


class NoDirectUploads(ServiceError):
    """This installation keeps recordings in a folder, which nobody can be given an address of."""

    status, name, title = 409, "no-direct-uploads", "Recordings must be posted to the API"
    advice = "Post the recording itself to ``/v1/sessions``."


class ModelDamaged(ServiceError):
    """The file of the model is not stored, or is not the one that was registered: its hash does not
    fit.
    """

    status, name, title = 409, "model-damaged", "The model's file is damaged"
    advice = "Train the model again, or have the file brought back from a backup."


class NotFinished(ServiceError):
    """What was asked for is there once the session has come to its end."""

    status, name, title = 409, "not-finished", "The session has not finished"
    advice = "Follow the session, and ask again when it has finished."


class NotGivenUp(ServiceError):
    """Only a session that was given up can be processed again: one that ended ``failed`` with the
    code ``given-up`` or ``nothing-heard``. Of sessions with ``privacy`` nothing is left to process.
    """

    status, name, title = 409, "not-given-up", "The session was not given up"
    advice = "Post the recording again if you want another answer."


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
    """Of one name a user has two active keys at most: the one in use, and the one that takes its
    place.
    """

    status, name, title = 409, "too-many-keys", "There are two active keys of this name"
    advice = "Revoke one of them, or give the new one another name."


class TooManyWebhooks(ServiceError):
    """The user has as many webhooks as a user may have."""

    status, name, title = 409, "too-many-webhooks", "There are too many webhooks already"
    advice = "Remove one that is not needed, or change its address."


class WebhookDisabled(ServiceError):
    """The webhook is told nothing: its receiver was gone, or failed for too long, or its owner
    turned it off. ``detail`` says which.
    """

    status, name, title = 409, "webhook-disabled", "The webhook is disabled"
    advice = 'Enable it with ``PATCH`` and ``{"enabled": true}``.'


class UserExists(ServiceError):
    """A user has this e-mail address already, perhaps one that is disabled."""

    status, name, title = 409, "user-exists", "There is a user of this address already"
    advice = "Use the user that there is."


class RequestUnderWay(ServiceError):
    """A request with this ``Idempotency-Key`` is being worked on, or its process has died and the
    server has not noticed yet. This one did nothing.
    """

    status, name, title = 409, "request-under-way", "The same request is under way"
    advice = (
        "Send it again with the same key; ``Retry-After`` says when. It is answered as the first "
        "one is."
    )
    retry_after_s = 1


class SecretNotShown(ServiceError):
    """The request with this ``Idempotency-Key`` was done, and its answer told a secret, which is
    kept nowhere. So it cannot be answered again.
    """

    status, name, title = 409, "secret-not-shown", "It was done, and the secret is not shown again"
    advice = (
        "If the first answer is lost, do it once more with another ``Idempotency-Key``, and "
        "revoke what ``Location`` names, if it names something."
    )


class ExportExpired(ServiceError):
    """The file of the export was kept for some days, and is given to nobody any more. Soon after
    the export is not known at all.
    """

    status, name, title = 410, "export-expired", "The export is kept no longer"
    advice = "Have it made once more: the same request makes the same file."


class LengthRequired(ServiceError):
    """A recording that is sent as the raw body must announce its length: a client that vanishes in
    the middle of a chunked body cannot be told from one that is done.
    """

    status, name, title = 411, "length-required", "A raw body needs a Content-Length"
    advice = "Send ``Content-Length``, or send the recording as a form."


class BodyTooLarge(ServiceError):
    """The JSON body has more bytes than are taken."""

    status, name, title = 413, "body-too-large", "The body is too large"
    advice = "Send less at once; ``detail`` says how much is taken."


class TooManyFiles(ServiceError):
    """The batch has more recordings than this server takes at once."""

    status, name, title = 413, "too-many-files", "There are too many recordings"
    advice = "Split it in several batches; ``detail`` says how many are taken."


class UploadTooLarge(ServiceError):
    """The recording, or the files of a form together, have more bytes than this server takes."""

    status, name, title = 413, "upload-too-large", "The recording is too large"
    advice = "Send a compressed format such as FLAC, or cut the recording."


class UnsupportedMediaType(ServiceError):
    """This endpoint takes another kind of body."""

    status, name, title = 415, "unsupported-media-type", "The body's media type is not taken here"
    advice = "``detail`` says which."


class UnknownFormat(ServiceError):
    """The first bytes of the recording are those of no audio format that is known, whatever its
    name or its media type say. Nothing of it was kept.
    """

    status, name, title = 415, "unknown-format", "The recording is of no known audio format"
    advice = (
        "Send WAV, RF64, W64, AIFF, FLAC, Ogg, MP3, MP4/M4A, AAC or WebM. A form needs the media "
        "type ``multipart/form-data``, and JSON ``application/json``."
    )


class UnsupportedUpload(ServiceError):
    """The endpoint takes a form with files, and the body is of another kind."""

    status, name, title = 415, "unsupported-upload", "The body's media type is not supported"
    advice = "Send ``multipart/form-data``."


class RangeNotSatisfiable(ServiceError):
    """Nothing of the recording lies in the range that the header ``Range`` asks for."""

    status, name, title = 416, "range-not-satisfiable", "The range lies behind the end"
    advice = "The header ``Content-Range`` of the answer says how many bytes there are."

    def __init__(self, detail: str, *, size_bytes: int) -> None:
        super().__init__(detail)
        self.headers = {"Content-Range": f"bytes */{size_bytes}"}


class IdempotencyKeyReused(ServiceError):
    """The ``Idempotency-Key`` is known from a request with another method, path, query or body.

    This one did nothing.
    """

    status, name, title = 422, "idempotency-key-reused", "The key belongs to another request"
    advice = (
        "Use a new key for each new request, and the old one only to repeat a request as it was."
    )


class RateLimited(ServiceError):
    """The key makes more requests than it may.

    Every answer to a request tells what is left, in ``RateLimit`` and ``RateLimit-Policy``.
    """

    status, name, title = 429, "rate-limited", "The key makes too many requests"
    advice = (
        "Try again; ``Retry-After`` says when. Have the key given another rate if it needs one."
    )
    retry_after_s = 1

    def __init__(self, detail: str, *, retry_after_s: int) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s


class InternalError(ServiceError):
    """The fault is the server's, and nobody foresaw it.

    The reason is in the server's log, under the request's id.
    """

    status, name, title = 500, "internal-error", "Something went wrong here"
    advice = "Try again; if it stays, tell whoever runs the server the ``request_id``."


class Stopping(ServiceError):
    """The process that took the request is about to end, as at each deployment; another one
    answers.
    """

    status, name, title = 503, "stopping", "This process is about to end; try again soon"
    advice = "Try again; ``Retry-After`` says when."
    retry_after_s = RETRY_AFTER_S


class StoreUnavailable(ServiceError):
    """The database or the blob store does not answer for now."""

    status, name, title = 503, "store-unavailable", "A store is away; try again soon"
    advice = (
        "Try again; ``Retry-After`` says when. A ``POST`` with an ``Idempotency-Key`` is safe to "
        "repeat."
    )
    retry_after_s = RETRY_AFTER_S


class TooManyStreams(ServiceError):
    """Every place that this process has for a stream of events is taken."""

    status, name, title = 503, "too-many-streams", "Too many streams of events are under way"
    advice = "Ask for the session itself now and then, or try again; ``Retry-After`` says when."
    retry_after_s = RETRY_AFTER_S
