"""Problems of exports."""

from __future__ import annotations

from services.http.errors import ServiceError


class ExportNotDone(ServiceError):
    """The export's file is not ready, or the export failed; ``detail`` says which."""

    status, name, title = 409, "export-not-done", "The export has no file"
    advice = "Poll the export and download its file once it is ``completed``."


class ExportExpired(ServiceError):
    """The export's file was kept for some days and has expired. The export itself is removed soon
    after.
    """

    status, name, title = 410, "export-expired", "The export has expired"
    advice = "Request the export again: the same request produces the same file."
