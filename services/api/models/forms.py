"""Streams forms with labelled recordings from the request to the blob store."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import IO, Annotated, TypeVar

import falcon
import msgspec
from falcon.media.multipart import BodyPart

from actors.facts.display_names import display_name
from db.blobs.blob_store import Blobs
from services.api.common.errors import UploadTooLarge
from services.api.common.files import PIECE_BYTES
from services.api.models import manifests
from services.api.models.errors import InvalidManifest
from services.api.models.manifests import MOST_TOLD, ClipRow, ManifestError, Recording
from services.http.blob_removal import left_to_clean_up
from services.http.bodies import MOST_TEXT_BYTES, is_form, parts_of, spooled
from services.http.errors import FieldError
from services.http.request_errors import InvalidForm, UnsupportedUpload

#: Upper bound on the recordings of one form.
MOST_CLIPS = 2_000
#: Upper bound on the size of a model file.
MOST_MODEL_BYTES = 64 * 1024 * 1024
CLIP, MODEL = "clip", "model"
Rows = TypeVar("Rows", list[ClipRow], list[ClipRow] | list[Recording])

#: Types of the fields, for the OpenAPI document.
Manifest = Annotated[str, msgspec.Meta(max_length=MOST_TEXT_BYTES)]
Clips = Annotated[list[bytes], msgspec.Meta(max_length=MOST_CLIPS)]


@dataclass(frozen=True)
class Stored:
    """A file that has been stored."""

    key: str
    n_bytes: int
    sha256: str


@dataclass
class Form:
    """The contents of a form. Clips are keyed by the file names that the client sent."""

    texts: dict[str, IO[bytes]] = field(default_factory=dict)
    clips: dict[str, Stored] = field(default_factory=dict)
    model: Stored | None = None

    def clip(self, name: str) -> Stored | None:
        """Return the file that a manifest calls ``name``."""
        return self.clips.get(wire_name(name))

    def keys(self) -> list[str]:
        """Return the keys of all stored files."""
        files = [*self.clips.values(), *([self.model] if self.model else [])]
        return [stored.key for stored in files]


def labelled(form: Form, parse: Callable[[IO[bytes]], Rows]) -> Rows:
    """Parse the manifest of a form, and check that it names every file of the form.

    Raises
    ------
    InvalidManifest
        If a line is missing, misspelt or invalid.
    """
    try:
        rows = parse(form.texts["manifest"])
    except ManifestError as error:
        raise InvalidManifest.of(error.errors, detail=str(error)) from None
    known = {wire_name(name) for name in manifests.files(rows)}
    strangers = [display_name(name) for name in form.clips if name not in known]
    if strangers:
        more = f" and {len(strangers) - MOST_TOLD} more" if len(strangers) > MOST_TOLD else ""
        raise InvalidManifest.of(
            [
                FieldError(field=CLIP, detail=f"{name} is not in the manifest")
                for name in strangers[:MOST_TOLD]
            ],
            detail=f"these files are not in the manifest: {', '.join(strangers[:MOST_TOLD])}{more}",
        )
    return rows


def wire_name(name: str) -> str:
    """Return a file name as browsers and most libraries encode it in a form; others do not."""
    return name.replace('"', "%22")


@contextmanager
def received(
    req: falcon.Request, *, blobs: Blobs, prefix: str, max_bytes: int, fields: tuple[str, ...]
) -> Iterator[Form]:
    """Store the files of a form below ``prefix``; if the block fails, they are removed.

    Only ``fields`` are allowed: `CLIP` and `MODEL` are files, any other is text.

    Raises
    ------
    InvalidForm, UnsupportedUpload, UploadTooLarge
        And what Falcon raises for a truncated form.
    """
    if not is_form(req):
        raise UnsupportedUpload(f"send a form (multipart/form-data) with {', '.join(fields)}")
    form = Form()
    with ExitStack() as texts:
        try:
            _receive(
                req, form, texts, blobs=blobs, prefix=prefix, max_bytes=max_bytes, fields=fields
            )
            yield form
        except BaseException:
            with left_to_clean_up("upload_not_removed", keys=form.keys()):
                blobs.delete(*form.keys())
            raise


def _receive(
    req: falcon.Request,
    form: Form,
    texts: ExitStack,
    *,
    blobs: Blobs,
    prefix: str,
    max_bytes: int,
    fields: tuple[str, ...],
) -> None:
    left = max_bytes
    for part in parts_of(req, most_files=MOST_CLIPS):
        if part.name not in fields:
            name = display_name(part.name or "")
            raise InvalidForm.of([FieldError(field=name, detail="unknown field")])
        if part.name == CLIP:
            name = wire_name(part.filename or "")
            if not name or name in form.clips:
                raise InvalidForm.of(
                    [FieldError(field=CLIP, detail="each file needs a unique name")]
                )
            if len(form.clips) == MOST_CLIPS:
                raise UploadTooLarge(f"a form may have at most {MOST_CLIPS} clips")
            # The key is a number; the client's name is only used to match the manifest.
            key = f"{prefix}clips/{len(form.clips)}"
            form.clips[name] = _store(blobs, key, part.stream, most_bytes=left)
            left -= form.clips[name].n_bytes
        elif part.name == MODEL:
            form.model = _store(blobs, f"{prefix}model", part.stream, most_bytes=MOST_MODEL_BYTES)
        else:
            form.texts[part.name] = texts.enter_context(_text(part))


@contextmanager
def _text(part: BodyPart) -> Iterator[IO[bytes]]:
    """Yield a text field as a file; raises :class:`InvalidForm` if it is too large."""
    with spooled() as file:
        while piece := part.stream.read(PIECE_BYTES):
            if file.tell() + len(piece) > MOST_TEXT_BYTES:
                raise InvalidForm.of(
                    [
                        FieldError(
                            field=part.name or "",
                            detail=f"must have {MOST_TEXT_BYTES} bytes at most",
                        )
                    ]
                )
            file.write(piece)
        file.seek(0)
        yield file


def _store(blobs: Blobs, key: str, stream: falcon.typing.ReadableIO, *, most_bytes: int) -> Stored:
    pieces = _Hashed(stream, most_bytes)
    blobs.put(key, pieces)
    return Stored(key, pieces.n_bytes, pieces.digest.hexdigest())


class _Hashed:
    """Iterates over the pieces of a part, counts and hashes them; raises above ``most_bytes``."""

    def __init__(self, stream: falcon.typing.ReadableIO, most_bytes: int) -> None:
        self._stream = stream
        self._most_bytes = most_bytes
        self.n_bytes = 0
        self.digest = hashlib.sha256()

    def __iter__(self) -> Iterator[bytes]:
        while piece := self._stream.read(PIECE_BYTES):
            self.n_bytes += len(piece)
            if self.n_bytes > self._most_bytes:
                raise UploadTooLarge("the files of the form are larger than allowed")
            self.digest.update(piece)
            yield piece
