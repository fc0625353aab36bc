"""Recordings and their products, in object storage.

One interface over a folder (``file://``) and a bucket (``s3://``). Keys are made by Clamor from
identifiers; nothing that a client sends becomes part of one. What a client may name is what the
operator has put below the inbox, to be read.
"""

from __future__ import annotations

import io
import itertools
import re
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple, cast
from urllib.parse import unquote, urlsplit

import obstore
from obstore.store import LocalStore, ObjectStore, S3Store, from_url

from db import blob_errors, durable
from db.blob_errors import BlobError, BlobMissing, BlobsAway, BlobsFull, reading, writing

if TYPE_CHECKING:
    from obstore.store import RetryConfig

#: The size of a part of an upload, and what a reader fetches at once: memory against requests.
PART_BYTES = 5 * 1024 * 1024
#: Parts of one upload that are under way at once; each holds a part in memory.
PARTS_AT_ONCE = 2
READ_BYTES = 1024 * 1024
#: How long the store's own library tries again, which no deadline can stop: well below the shortest
#: one of a step. A store that is away for longer is a failure, and the step is tried again later.
PATIENCE: RetryConfig = {"max_retries": 8, "retry_timeout": timedelta(seconds=20)}
#: Keys that are listed at once.
PAGE_KEYS = 1_000
#: With less room than this, or than this share of a small disk, no more recordings are taken.
LEAST_ROOM_BYTES = 64 * 1024 * 1024
LEAST_ROOM_SHARE = 0.05
#: What a probe writes, into a file without a name: one block of a disk.
PROBE_BYTES = 4096

__all__ = ["BlobError", "BlobMissing", "Blobs", "BlobsAway", "BlobsFull"]


#: Below each lies a folder for each session, training or validation, named by its id.
SESSIONS, TRAININGS, VALIDATIONS = "sessions/", "trainings/", "validations/"


def session_prefix(session_id: uuid.UUID) -> str:
    """Below this lies all that belongs to a session."""
    return f"{SESSIONS}{session_id}/"


def recording_key(session_id: uuid.UUID) -> str:
    """Where a session's recording lies."""
    return f"{session_prefix(session_id)}recording"


#: Below this lies what callers put into the store themselves, by an address that was signed for
#: them: a folder for each upload, named by its id.
UPLOADS = "uploads/"


def upload_key(upload_id: uuid.UUID, user_id: uuid.UUID) -> str:
    """Where an upload of a user's lies, until it is copied to its session."""
    return f"{UPLOADS}{upload_id}/{user_id}"


#: Clips that outlive their recordings.
CLIPS = "clips/"


def clip_key(clip_id: uuid.UUID) -> str:
    """Where a clip lies that is kept."""
    return f"{CLIPS}{clip_id}/clip.flac"


#: Files that were made to be downloaded.
EXPORTS = "exports/"


def export_prefix(export_id: uuid.UUID) -> str:
    """Below this lies all that belongs to an export."""
    return f"{EXPORTS}{export_id}/"


def training_prefix(job_id: uuid.UUID) -> str:
    """Below this lies all that belongs to a training, its model too."""
    return f"{TRAININGS}{job_id}/"


def validation_prefix(validation_id: uuid.UUID) -> str:
    """Below this lies all that belongs to a validation."""
    return f"{VALIDATIONS}{validation_id}/"


#: Below each id lie the pages of a daily report.
REPORTS = "reports/"


def report_key(report_id: uuid.UUID, made_id: uuid.UUID) -> str:
    """Where the page of a daily report lies; one that is made anew is another one."""
    return f"{REPORTS}{report_id}/{made_id}.html"


#: Which installation the store belongs to, and which database of it.
OWNER = "installation.json"

#: Below this the operator puts recordings, for callers to name. Clamor reads them and changes
#: nothing there.
INBOX = "inbox/"

#: A name below the inbox: parts that are not empty, no control characters, no backslashes.
_INBOX_NAME = re.compile(r"[^/\\\x00-\x1f\x7f]+(/[^/\\\x00-\x1f\x7f]+)*")
#: Bytes of a key in UTF-8: as many as S3 allows.
MOST_KEY_BYTES = 1024


def is_inbox_key(key: str) -> bool:
    """Whether a caller may name this key: it lies below the inbox, and leads nowhere else."""
    name = key.removeprefix(INBOX)
    return (
        key.startswith(INBOX)
        and len(key.encode(errors="replace")) <= MOST_KEY_BYTES
        and _INBOX_NAME.fullmatch(name) is not None
        and not {".", ".."} & set(name.split("/"))
    )


def shipped_key(sha256: str) -> str:
    """Where a model lies that came with a release; the same file is the same blob."""
    return f"models/{sha256}"


def product_key(session_id: uuid.UUID, name: str, *, attempt: int, resplits: int = 0) -> str:
    """Where one attempt's product lies: a late worker cannot write over its successor's."""
    number = f"{resplits}.{attempt}" if resplits else f"{attempt}"
    return f"{session_prefix(session_id)}{name}-{number}"


class Room(NamedTuple):
    """Bytes of the disk that a folder of blobs is on."""

    free: int
    total: int


class Blobs:
    """A blob store.

    Raises :class:`BlobMissing` where a key is not there, and :class:`BlobError` for all else that
    the store fails with: :class:`BlobsAway`, :class:`BlobsFull` where it is not one blob alone.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._store: ObjectStore
        self._folder: Path | None = None
        if parts.scheme == "file":
            folder = Path(unquote(parts.path))
            durable.make_folder(folder)
            self._store = LocalStore(folder, automatic_cleanup=True)
            self._folder = folder
        else:
            self._store = from_url(url, retry_config=PATIENCE)

    def put(self, key: str, content: bytes | Iterable[bytes]) -> None:
        """Store a blob; all of it appears at once, or nothing if ``content`` raises.

        When this returns the blob outlasts a power failure, so that a row may speak of it.
        """
        self._require_folder()
        if self._folder is not None:
            with self.writer(key) as file:
                for piece in [content] if isinstance(content, bytes) else content:
                    file.write(piece)
            return
        pieces = None if isinstance(content, bytes) else blob_errors.Pieces(content)
        with writing(pieces):
            obstore.put(
                self._store, key, content if pieces is None else pieces, chunk_size=PART_BYTES,
                max_concurrency=PARTS_AT_ONCE,
            )  # fmt: skip

    @contextmanager
    def writer(self, key: str) -> Iterator[IO[bytes]]:
        """Write a blob piece by piece, in bounded memory; its end is that of :meth:`put`."""
        self._require_folder()
        body = blob_errors.Body()
        with writing(body), self._opened(key) as file, body:
            yield cast(IO[bytes], blob_errors.Writer(file))

    def _opened(self, key: str) -> AbstractContextManager[Any]:
        if self._folder is not None:
            return durable.create(self._folder, key)
        return obstore.open_writer(
            self._store, key, buffer_size=PART_BYTES, max_concurrency=PARTS_AT_ONCE
        )

    def get(self, key: str) -> bytes:
        """A whole blob; only for small ones."""
        with self._reading(key):
            return bytes(obstore.get(self._store, key).bytes())

    def get_range(self, key: str, *, start: int, length: int) -> bytes:
        """``length`` bytes from ``start``."""
        with self._reading(key):
            return bytes(obstore.get_range(self._store, key, start=start, length=length))

    def open(self, key: str) -> io.BufferedReader:
        """A blob as a seekable file, fetched as it is read."""
        with self._reading(key):
            reader = obstore.open_reader(self._store, key, buffer_size=READ_BYTES)
        return io.BufferedReader(_RawReader(reader), buffer_size=READ_BYTES)

    def delete(self, *keys: str) -> None:
        """Remove blobs; one that is not there is already removed."""
        for key in keys:
            with writing(), suppress(FileNotFoundError):
                obstore.delete(self._store, key)

    def keys(self, prefix: str, *, limit: int | None = None) -> list[str]:
        """All keys below a prefix, or the first that are found of them."""
        self._require_folder()
        found = (meta["path"] for page in obstore.list(self._store, prefix) for meta in page)
        with writing():
            return list(itertools.islice(found, limit))

    def size(self, key: str) -> int:
        """How many bytes a blob has."""
        with self._reading(key):
            return int(obstore.head(self._store, key)["size"])

    def copy(self, source: str, to: str) -> None:
        """Give a blob's content to another key too; the two have nothing to do with each other."""
        if isinstance(self._store, LocalStore):
            # Its own way is a second link to one file, which may still be written to by whoever
            # put it there, and is impossible between two file systems.
            with self.open(source) as file, self.writer(to) as copy:
                shutil.copyfileobj(file, copy, READ_BYTES)
            return
        with self._reading(source):
            obstore.copy(self._store, source, to)

    def signed_put(self, key: str, *, expires_in: timedelta) -> str | None:
        """An address at which whoever knows it may PUT a blob; None if the store has none."""
        if not isinstance(self._store, S3Store):
            return None
        return obstore.sign(self._store, "PUT", key, expires_in)

    def keys_older_than(self, age_s: float, prefix: str) -> Iterator[list[str]]:
        """All keys below a prefix that were last written longer ago than that, page by page."""
        youngest = datetime.now(UTC) - timedelta(seconds=age_s)
        with writing(found := blob_errors.Body()):
            for page in obstore.list(self._store, prefix, chunk_size=PAGE_KEYS):
                with found:
                    yield [meta["path"] for meta in page if meta["last_modified"] < youngest]

    def remove_unfinished(self, *, age_s: float) -> int:
        """Remove what writers left behind that were killed longer ago than that; how many.

        Only of a folder: a bucket keeps the parts of such an upload where no listing shows them,
        and removes them by a rule of its own.
        """
        removed, oldest = 0, time.time() - age_s
        for path in self._folder.rglob("*#*") if self._folder else ():
            with suppress(FileNotFoundError):
                if durable.UNFINISHED.fullmatch(path.name) and path.stat().st_mtime < oldest:
                    path.unlink()
                    removed += 1
        return removed

    def room(self) -> Room | None:
        """How much room there is; None where nobody can tell."""
        if self._folder is None:
            return None
        self._require_folder()
        usage = shutil.disk_usage(self._folder)
        return Room(free=usage.free, total=usage.total)

    def check(self) -> None:
        """Raise :class:`BlobsAway` unless the store answers, :class:`BlobsFull` without room.

        Of a folder the free space is looked at and one block is written, into a file that has no
        name and is gone at once. How much room a bucket has, only a failing upload shows.
        """
        room = self.room()
        with writing():
            next(iter(obstore.list(self._store, "health/")), None)
            if self._folder is not None:
                with tempfile.TemporaryFile(dir=self._folder, buffering=0) as probe:
                    probe.write(bytes(PROBE_BYTES))
        if room is not None and room.free < min(LEAST_ROOM_BYTES, room.total * LEAST_ROOM_SHARE):
            raise BlobsFull

    @contextmanager
    def _reading(self, key: str) -> Iterator[None]:
        """Raise what it means that a blob cannot be read: it is missing, or the store is away."""
        try:
            with reading():
                yield
        except BlobsAway:
            self._require_folder()
            raise
        except FileNotFoundError:
            # Nothing is under the key, unless it is the whole store that is not there.
            self._require_folder()
            raise BlobMissing(key) from None

    def _require_folder(self) -> None:
        """A folder that is gone is a disk that was taken away, and may come back: it is not made
        again, and nothing in it is taken for lost.
        """
        if self._folder is not None and not self._folder.is_dir():
            raise BlobsAway("the folder of the blob store is not there")


class _RawReader(io.RawIOBase):
    """The store's reader as Python's own kind of file, which decoders expect."""

    def __init__(self, reader: Any) -> None:
        self._reader = reader

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        return int(self._reader.seek(offset, whence))

    def tell(self) -> int:
        return int(self._reader.tell())

    def readinto(self, buffer: Any, /) -> int:
        view = memoryview(buffer).cast("B")
        with reading():
            data = self._reader.read(len(view))
        view[: len(data)] = memoryview(data)
        return len(data)
