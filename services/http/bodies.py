"""The bodies of requests: of which kind one is, and the parts of a form, within bounds.

The time to parse a header grows with the square of its length, and each part of a form takes time
even if it is empty. So the bounds are checked before anything is parsed.
"""

from __future__ import annotations

from collections.abc import Iterator

import falcon
from falcon.media.multipart import BodyPart, MultipartParseOptions

from services.http.errors import InvalidHeader

#: Fields of a form beside its files. Those that mean nothing here are passed over.
MOST_FIELDS = 64
#: Bytes of the headers of one part: room for the longest file name in both of its spellings.
MOST_HEADER_BYTES = 2 * 1024
#: Semicolons in what names a part: those between its parameters, and those in a file's name.
MOST_SEMICOLONS = 64
#: Bytes of a text in a form, which is held in memory.
MOST_TEXT_BYTES = 4 * 1024 * 1024
#: Characters of the header Content-Type.
MOST_TYPE_CHARS = 512
#: Bytes of a refused body that are read all the same, and how many at once.
MOST_DISCARDED_BYTES = 64 * 1024 * 1024
PIECE_BYTES = 256 * 1024
#: Stands for the length of a form that was not announced; its last boundary ends it.
_UNKNOWN_BYTES = 1 << 62


def media_type_of(req: falcon.Request) -> str:
    """Return the media type of a request's body without its parameters; empty if there is none.

    Raises
    ------
    InvalidHeader
        If the header is longer than any media type.
    """
    given = req.content_type or ""
    if len(given) > MOST_TYPE_CHARS:
        raise InvalidHeader(f"Content-Type must have at most {MOST_TYPE_CHARS} characters")
    return given.partition(";")[0].strip().lower()


def discard(req: falcon.Request) -> None:
    """Read a body that is refused, and keep nothing of it.

    Many clients send all of a request before they look at the answer; they would see a broken
    connection instead. A body that is longer than `MOST_DISCARDED_BYTES` is left alone.
    """
    if (req.content_length or 0) <= MOST_DISCARDED_BYTES:
        while req.bounded_stream.read(PIECE_BYTES):
            pass


def is_form(req: falcon.Request) -> bool:
    """Return whether a request's body is a multipart form."""
    return media_type_of(req) == falcon.MEDIA_MULTIPART


def parts_of(req: falcon.Request, *, most_files: int) -> Iterator[BodyPart]:
    """Iterate over the parts of a form with at most ``most_files`` files.

    One file more than allowed is still yielded, so that the caller can name its own limit.

    Raises
    ------
    falcon.MultipartParseError
        While iterating: the form breaks off, has more parts, or a part has longer headers.
    """
    options = MultipartParseOptions()
    options.max_body_part_count = most_files + MOST_FIELDS
    options.max_body_part_headers_size = MOST_HEADER_BYTES
    options.max_body_part_buffer_size = MOST_TEXT_BYTES
    length = req.content_length
    # Falcon's bounded stream takes a request without a length for an empty one. A chunked form
    # has none, but the server ends its stream, and says so.
    ends_by_itself = length is None and req.env.get("wsgi.input_terminated")
    body = req.stream if ends_by_itself else req.bounded_stream
    handler = falcon.media.MultipartFormHandler(options)
    for part in handler.deserialize(body, req.content_type, length or _UNKNOWN_BYTES):
        # Falcon looks at all that stands before each semicolon that may be part of a name.
        if part._headers.get(b"content-disposition", b"").count(b";") > MOST_SEMICOLONS:
            raise falcon.MultipartParseError(description="a part has too many parameters")
        yield part
