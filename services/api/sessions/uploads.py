"""Streams a recording from the request to the blob store in pieces, never whole in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import falcon
from falcon.typing import ReadableIO

from actors.facts import audio_cost, formats
from actors.facts.display_names import display_name
from db.blobs.blob_store import Blobs
from services.api.common.errors import EmptyUpload, UnknownFormat, UploadTooLarge
from services.api.common.files import PIECE_BYTES
from services.api.sessions import options
from services.api.sessions.errors import IncompleteUpload
from services.http.bodies import is_form, parts_of
from services.http.request_errors import InvalidParameter, LengthRequired

#: The name of the multipart field with the recording.
FIELD = "file"
#: Message for a file that is not a recording.
UNKNOWN = (
    f"the first bytes match no supported format ({', '.join(formats.NAMES)}); convert the recording"
    " to one of them, such as FLAC"
)


@dataclass(frozen=True)
class Upload:
    """A recording that has been stored."""

    file_name: str
    size_bytes: int
    #: What it costs of its user's quota, as far as its header or its size says.
    cost_s: float


def receive(
    req: falcon.Request, *, blobs: Blobs, key: str, max_bytes: int, file_name: str = ""
) -> Upload:
    """Store the recording of a request: a file in a form, or the whole body.

    The first bytes decide whether it is a recording, not the media type: curl, for example, sends
    any body without a given type as ``application/x-www-form-urlencoded``.

    The recording is named ``file_name``, or else as in the form.

    Raises
    ------
    EmptyUpload, IncompleteUpload, InvalidParameter, LengthRequired, UnknownFormat, UploadTooLarge
        Nothing is stored then.
    """
    has_form = is_form(req)
    source = _form(req) if has_form else _raw(req, max_bytes)
    counted = _Counted(source, max_bytes)
    try:
        counted.begin()
    except UnknownFormat as error:
        hint = "" if has_form else _other_body(counted.head)
        raise UnknownFormat(f"{hint}{error}") from None
    blobs.put(key, counted)
    return counted.upload(file_name or source.name)


def _other_body(head: bytes) -> str:
    """Return what a body without the media type for it seems to be; empty for anything else."""
    if head.lstrip()[:1] in (b"{", b"["):
        return "the body looks like JSON, which needs Content-Type: application/json; "
    if head.startswith(b"--") and b"content-disposition:" in head.lower():
        return (
            "the body looks like a form, which needs Content-Type: multipart/form-data with its"
            " boundary; "
        )
    return ""


def receive_part(
    part: falcon.media.multipart.BodyPart,
    *,
    blobs: Blobs,
    key: str,
    max_bytes: int,
    check_end: Callable[[int], None],
) -> Upload:
    """Store one part of a form as a recording; ``check_end`` raises if it is truncated.

    Raises
    ------
    EmptyUpload, UnknownFormat, UploadTooLarge
        And whatever ``check_end`` raises. Nothing is stored then.
    """
    source = _Source(part.filename or "", part.stream, check_end)
    counted = _Counted(source, max_bytes)
    counted.begin()
    blobs.put(key, counted)
    return counted.upload(source.name)


@dataclass(frozen=True)
class _Source:
    """The source of the bytes of a recording."""

    name: str
    stream: ReadableIO
    #: Called with the number of bytes read; raises if the recording is truncated.
    check_end: Callable[[int], None]


def _raw(req: falcon.Request, max_bytes: int) -> _Source:
    length = req.content_length
    if length is None and req.get_header("Transfer-Encoding"):
        # A chunked body from a client that vanished looks the same as a complete one.
        raise LengthRequired("send Content-Length, or send the recording as a form")
    if length and length > max_bytes:
        raise UploadTooLarge(f"the recording must have at most {max_bytes} bytes")

    def check_end(n_bytes: int) -> None:
        if n_bytes != length:
            raise IncompleteUpload(f"{n_bytes} of {length} bytes arrived")

    return _Source("", req.bounded_stream, check_end)


def _form(req: falcon.Request) -> _Source:
    parts = parts_of(req, most_files=1)

    def check_end(_n_bytes: int) -> None:
        # A complete form ends with its last boundary; Falcon raises otherwise.
        for part in parts:
            if part.name == FIELD:
                raise InvalidParameter(
                    f"the form has several fields '{FIELD}': send one recording, or all of them as"
                    " a batch, to POST /v1/batches"
                )
            check_name(part.name)

    for part in parts:
        if part.name == FIELD:
            return _Source(part.filename or "", part.stream, check_end)
        check_name(part.name)
    raise EmptyUpload(f"the form has no field '{FIELD}'; send the recording in it")


def check_name(name: str | None) -> None:
    """Refuse a form field with the name of a query parameter instead of silently ignoring it."""
    if name in options.NAMES:
        raise InvalidParameter(f"'{name}' must be a query parameter, not a form field")


class _Counted:
    """Iterates over the pieces of a source and counts its bytes, after :meth:`begin`.

    Rejects a body that is too large or truncated. It raises while the blob store reads, so that the
    store discards the partial blob.
    """

    def __init__(self, source: _Source, max_bytes: int) -> None:
        self._source = source
        self._max_bytes = max_bytes
        self.n_bytes = 0
        #: The first bytes.
        self.head = b""
        self._first = b""

    def upload(self, file_name: str) -> Upload:
        """Return the upload once it has been stored."""
        return Upload(
            file_name=display_name(file_name),
            size_bytes=self.n_bytes,
            cost_s=audio_cost.promised_cost_s(self.head, self.n_bytes),
        )

    def __iter__(self) -> Iterator[bytes]:
        piece = self._first
        while piece:
            self.n_bytes += len(piece)
            if self.n_bytes > self._max_bytes:
                raise UploadTooLarge(f"the recording must have at most {self._max_bytes} bytes")
            yield piece
            piece = self._source.stream.read(PIECE_BYTES)
        self._source.check_end(self.n_bytes)

    def begin(self) -> None:
        """Read the first piece, and reject what is not a recording before the store is used.

        Raises
        ------
        EmptyUpload, UnknownFormat
        """
        piece = self._source.stream.read(PIECE_BYTES)
        # A read may return very few bytes.
        while 0 < len(piece) < formats.HEAD_BYTES:
            more = self._source.stream.read(PIECE_BYTES)
            if not more:
                break
            piece += more
        if not piece:
            raise EmptyUpload("the recording is empty")
        self.head = piece[: formats.HEAD_BYTES]
        if formats.container_of(self.head) is None:
            raise UnknownFormat(UNKNOWN)
        self._first = piece
