"""Problems of batches."""

from __future__ import annotations

from services.http.errors import ServiceError


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


class BatchNotEmpty(ServiceError):
    """The batch still has sessions. A batch is deleted after its sessions, of which there may be
    too many for one request.
    """

    status, name, title = 409, "batch-not-empty", "The batch has sessions"
    advice = (
        "Delete its sessions first: ``POST /v1/sessions/deletions`` with its ``batch_id``, until "
        "none are left. Then repeat the request."
    )


class TooManyFiles(ServiceError):
    """The batch has more recordings than this server accepts at once."""

    status, name, title = 413, "too-many-files", "Too many recordings"
    advice = "Split the recordings into several batches; ``detail`` gives the limit."
