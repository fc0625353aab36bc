"""Problems of recordings and their sessions."""

from __future__ import annotations

from services.http.errors import InvalidFields, ServiceError


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


class NoClip(ServiceError):
    """The audio of the detection cannot be cut from its recording, for the reason in ``detail``."""

    status, name, title = 404, "no-clip", "The detection has no clip"
    advice = "The detection itself is still available."


class NoSpectrogram(ServiceError):
    """The session ended without a spectrogram: it failed or was cancelled before one was drawn,
    or its ``privacy`` does not allow one.
    """

    status, name, title = 404, "no-spectrogram", "The session has no spectrogram"
    advice = "Read the session to see how it ended."


class ClipNotReady(ServiceError):
    """A worker is cutting the clip, because this request or an earlier one asked for it."""

    status, name, title = 409, "clip-not-ready", "The clip is not ready yet"
    advice = "Repeat the request after ``Retry-After`` seconds."
    retry_after_s = 1


class NotGivenUp(ServiceError):
    """Only a session that was given up can be retried: one that ended as ``failed`` with the code
    ``given-up`` or ``nothing-heard``. With ``privacy``, the recording is gone and cannot be
    processed again.
    """

    status, name, title = 409, "not-given-up", "The session cannot be retried"
    advice = "To process the recording again, post it as a new session."


class NoDirectUploads(ServiceError):
    """This installation stores recordings in a folder, which has no upload addresses."""

    status, name, title = 409, "no-direct-uploads", "Direct uploads are not available"
    advice = "Post the recording itself to ``/v1/sessions``."


class RangeNotSatisfiable(ServiceError):
    """The ``Range`` header selects no part of the recording."""

    status, name = 416, "range-not-satisfiable"
    title = "Range not satisfiable: it starts past the end of the file"
    advice = "Request a range within the size given in the ``Content-Range`` header."

    def __init__(self, detail: str, *, size_bytes: int) -> None:
        super().__init__(detail)
        self.headers = {"Content-Range": f"bytes */{size_bytes}"}
