"""A recording on its way from the wire to the blob store: in pieces, counted, never whole."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

import falcon
from falcon.typing import ReadableIO

from db.blobs import Blobs
from services.errors import EmptyUpload, UnsupportedUpload, UploadTooLarge

#: What is read at once.
PIECE_BYTES = 256 * 1024
#: The name of the multipart field that bears the recording.
FIELD = "file"
#: A client's name for a file is kept up to this length, to be shown.
NAME_CHARS = 200
DEFAULT_NAME = "recording"

FORMS = falcon.media.MultipartFormHandler()


@dataclass(frozen=True)
class Upload:
    """A recording that has been stored."""

    file_name: str
    size_bytes: int


def receive(req: falcon.Request, *, blobs: Blobs, key: str, max_bytes: int) -> Upload:
    """Store the recording that a request bears: a form with a file, or a raw body.

    Raises
    ------
    EmptyUpload, UploadTooLarge, UnsupportedUpload
        Nothing is stored then.
    """
    media_type = (req.content_type or "").partition(";")[0].strip().lower()
    if media_type == "multipart/form-data":
        name, stream = _form_file(req, _body(req))
    elif media_type in ("application/x-www-form-urlencoded", "application/json"):
        raise UnsupportedUpload(
            f"send the recording as multipart/form-data, in the field '{FIELD}', or as the raw body"
        )
    else:
        name, stream = req.get_param("file_name") or "", _body(req)
        if req.content_length and req.content_length > max_bytes:
            raise UploadTooLarge(f"at most {max_bytes} bytes are taken")
    counted = _Counted(stream, max_bytes)
    blobs.put(key, counted)
    return Upload(file_name=display_name(name), size_bytes=counted.n_bytes)


def display_name(name: str) -> str:
    """A client's file name, fit to be shown: its last part, one line, of bounded length."""
    last = name.replace("\\", "/").rstrip("/").rpartition("/")[2]
    printable = "".join(
        character if unicodedata.category(character)[0] != "C" else " " for character in last
    )
    return " ".join(printable.split())[:NAME_CHARS] or DEFAULT_NAME


def _body(req: falcon.Request) -> ReadableIO:
    """The request's body, up to its end.

    Falcon's bounded stream takes a request without a length for an empty one. A chunked request
    has none, but the server ends its stream, and says so.
    """
    ends_by_itself = req.content_length is None and req.env.get("wsgi.input_terminated")
    stream = req.stream if ends_by_itself else req.bounded_stream
    return stream


def _form_file(req: falcon.Request, body: ReadableIO) -> tuple[str, ReadableIO]:
    for part in FORMS.deserialize(body, req.content_type, req.content_length):
        if part.name == FIELD:
            return part.filename or "", part.stream
    raise EmptyUpload(f"the form has no field '{FIELD}'")


class _Counted:
    """Iterates over a stream's pieces and counts; refuses an empty stream and one too long.

    It raises while the blob store reads, so that the store drops what it has of the blob.
    """

    def __init__(self, stream: ReadableIO, max_bytes: int) -> None:
        self._stream = stream
        self._max_bytes = max_bytes
        self.n_bytes = 0

    def __iter__(self) -> Iterator[bytes]:
        while piece := self._stream.read(PIECE_BYTES):
            self.n_bytes += len(piece)
            if self.n_bytes > self._max_bytes:
                raise UploadTooLarge(f"at most {self._max_bytes} bytes are taken")
            yield piece
        if not self.n_bytes:
            raise EmptyUpload("the recording is empty")
