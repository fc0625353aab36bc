"""Problems of analyses."""

from __future__ import annotations

from services.http.errors import ServiceError


class NoAnalysis(ServiceError):
    """The session has no analysis: it has not finished, or it failed or was cancelled."""

    status, name, title = 404, "no-analysis", "The session has no analysis"
    advice = "Once the session has finished, request an analysis with a POST to the same path."
