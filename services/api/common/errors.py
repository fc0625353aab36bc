"""Problems of uploads, of work that has or has not finished, and of legal holds."""

from __future__ import annotations

from services.http.errors import ServiceError


class EmptyUpload(ServiceError):
    """The body is empty, or the form has no file in its field ``file``."""

    status, name, title = 400, "empty-upload", "The request contains no recording"
    advice = "Send the recording as the raw body, or as a file in the form field ``file``."


class AlreadyFinished(ServiceError):
    """A session or batch that has finished cannot be cancelled."""

    status, name, title = 409, "already-finished", "Already finished"
    advice = "No action is needed."


class NotFinished(ServiceError):
    """The requested data becomes available when processing has finished."""

    status, name, title = 409, "not-finished", "Not finished yet"
    advice = "Poll until processing has finished, then repeat the request."


class UnderLegalHold(ServiceError):
    """The session, or one that would have to be deleted with it, is under legal hold. Nothing was
    deleted.
    """

    status, name, title = 409, "under-legal-hold", "Under legal hold"
    advice = (
        "An administrator can lift the hold: ``DELETE /v1/sessions/{session_id}/hold``. Then "
        "repeat the request."
    )


class UploadTooLarge(ServiceError):
    """The recording, or the files of a form together, are larger than this server accepts."""

    status, name, title = 413, "upload-too-large", "Upload too large"
    advice = "Send a compressed format such as FLAC, or split the recording."


class UnknownFormat(ServiceError):
    """The first bytes of the recording match no supported audio format; its name and media type
    are not considered. Nothing was stored.
    """

    status, name, title = 415, "unknown-format", "Unknown audio format"
    advice = (
        "Convert the recording to one of the formats that ``detail`` lists, such as FLAC. A form "
        "needs the media type ``multipart/form-data``, and JSON ``application/json``."
    )
