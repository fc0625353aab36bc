"""Request bodies: their media type, and the parts of a form within limits.

The time to parse a header grows with the square of its length, and each part of a form takes time
even if it is empty. So the limits are checked before anything is parsed.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator

import falcon
from falcon.media.multipart import BodyPart, MultipartParseOptions

from services.http.request_errors import InvalidHeader

#: Form fields in addition to the files; uploads of recordings ignore unknown ones.
MOST_FIELDS = 64
#: Bytes of the headers of one part: enough for the longest file name in both of its encodings.
MOST_HEADER_BYTES = 2 * 1024
#: Semicolons in Content-Disposition: between parameters, and within a file name.
MOST_SEMICOLONS = 64
#: Bytes of a part of a body that are held in memory; more are written to a temporary file.
MOST_HELD_BYTES = 64 * 1024
#: Bytes of a text field.
MOST_TEXT_BYTES = 4 * 1024 * 1024
#: Characters of the header Content-Type.
MOST_TYPE_CHARS = 512
#: Bytes of a rejected body that are still read, and bytes per read.
MOST_DISCARDED_BYTES = 64 * 1024 * 1024
PIECE_BYTES = 256 * 1024
#: Stands in for the unknown length of a chunked form, which its last boundary ends.
_UNKNOWN_BYTES = 1 << 62


def media_type_of(req: falcon.Request) -> str:
    """Return the media type of a request's body without its parameters; empty if there is none.

    Raises
    ------
    InvalidHeader
        If the header is too long.
    """
    given = req.content_type or ""
    if len(given) > MOST_TYPE_CHARS:
        raise InvalidHeader(f"Content-Type must have at most {MOST_TYPE_CHARS} characters")
    return given.partition(";")[0].strip().lower()


def discard(req: falcon.Request) -> None:
    """Read and discard the body of a rejected request.

    Many clients send the whole request before they read the response; otherwise they would see a
    broken connection. A body longer than `MOST_DISCARDED_BYTES` is not read.
    """
    if (req.content_length or 0) <= MOST_DISCARDED_BYTES:
        while req.bounded_stream.read(PIECE_BYTES):
            pass


def spooled() -> tempfile.SpooledTemporaryFile[bytes]:
    """Return a temporary file for what a body contains; in memory up to `MOST_HELD_BYTES`."""
    return tempfile.SpooledTemporaryFile(MOST_HELD_BYTES)


def is_form(req: falcon.Request) -> bool:
    """Return whether a request's body is a multipart form."""
    return media_type_of(req) == falcon.MEDIA_MULTIPART


def parts_of(req: falcon.Request, *, most_files: int) -> Iterator[BodyPart]:
    """Iterate over the parts of a form with at most ``most_files`` files.

    One file more than allowed is still yielded, so that the caller can name its own limit.

    Raises
    ------
    falcon.MultipartParseError
        While iterating: the form is incomplete, has too many parts, or a part has too long headers.
    """
    options = MultipartParseOptions()
    options.max_body_part_count = most_files + MOST_FIELDS
    options.max_body_part_headers_size = MOST_HEADER_BYTES
    length = req.content_length
    # Falcon's bounded stream treats a request without a length as empty. A chunked form has no
    # length, but the server terminates its stream and sets wsgi.input_terminated.
    ends_by_itself = length is None and req.env.get("wsgi.input_terminated")
    body = req.stream if ends_by_itself else req.bounded_stream
    handler = falcon.media.MultipartFormHandler(options)
    for part in handler.deserialize(body, req.content_type, length or _UNKNOWN_BYTES):
        # Falcon parses the text before each semicolon again, as it may be part of a file name.
        if part._headers.get(b"content-disposition", b"").count(b";") > MOST_SEMICOLONS:
            raise falcon.MultipartParseError(description="a part has too many parameters")
        yield part
