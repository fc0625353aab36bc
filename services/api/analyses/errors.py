"""Problems of analyses."""

from __future__ import annotations

from services.http.errors import ServiceError


class NoAnalysis(ServiceError):
    """The session has no analysis: it has not finished, it failed or was cancelled, or it is older
    than the feature.
    """

    status, name, title = 404, "no-analysis", "The session has no analysis"
    advice = "Once the session has finished, request an analysis with a POST to the same path."
