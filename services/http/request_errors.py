"""Requests that are malformed, or that no endpoint takes."""

from __future__ import annotations

from services.http.errors import InvalidFields, ServiceError


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


class UnknownRoute(ServiceError):
    """The API has no endpoint at this path. A malformed ID in the path has the same effect."""

    status, name, title = 404, "unknown-route", "No endpoint at this path"
    advice = "Compare the path with the API documentation."


class MethodNotAllowed(ServiceError):
    """The endpoint at this path does not support this method."""

    status, name, title = 405, "method-not-allowed", "Method not allowed"
    advice = "Use one of the methods in the ``Allow`` header."


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


class UnsupportedMediaType(ServiceError):
    """This endpoint does not accept a body of this media type."""

    status, name, title = 415, "unsupported-media-type", "Unsupported media type"
    advice = "Send the media type that ``detail`` names."


class UnsupportedUpload(ServiceError):
    """This endpoint accepts a form with files, and the body has another media type."""

    status, name, title = 415, "unsupported-upload", "A form is required"
    advice = "Send ``multipart/form-data``."
