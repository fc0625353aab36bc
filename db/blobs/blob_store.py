"""Object storage for recordings and their products.

One interface for a folder (``file://``) and a bucket (``s3://``).
"""

from __future__ import annotations

import io
import itertools
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple, Self, TypeVar, cast
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, ObjectStore, S3Store, from_url

from db.blobs import bucket_files, durable, errors, files, patience
from db.blobs.behind import Behind
from db.blobs.breaker import StoreBreaker
from db.blobs.errors import (
    BlobError,
    BlobMissing,
    StorageFull,
    StorageUnavailable,
    reading,
    writing,
)
from db.blobs.file_calls import FileCalls
from db.blobs.patience import Patience
from db.settings import Settings, SettingsError
from db.unreachable import first_line

if TYPE_CHECKING:
    from obstore.store import S3Config

T = TypeVar("T")

#: The size of a part of an upload, and of a read. Larger takes more memory and fewer requests.
PART_BYTES = 5 * 1024 * 1024
#: Parts of one upload in flight at once; each is held in memory.
PARTS_AT_ONCE = 2
READ_BYTES = 1024 * 1024
#: Threads that store blobs while the process computes: as many as a clip has blobs at once.
BEHIND_THREADS = 2
#: Keys per page of a listing.
PAGE_KEYS = 1_000
#: Below this free space, or this share of a small disk, no more recordings are accepted.
LEAST_ROOM_BYTES = 64 * 1024 * 1024
LEAST_ROOM_SHARE = 0.05
#: Bytes that a probe writes to an unnamed file: one block of a disk.
PROBE_BYTES = 4096


class Room(NamedTuple):
    """Free and total bytes of the disk with the blob folder."""

    free: int
    total: int


class ListedBlob(NamedTuple):
    """A blob as a listing shows it."""

    key: str
    size_bytes: int
    modified_at: datetime


class Blobs:
    """A blob store.

    Methods raise :class:`BlobMissing` for a missing key and :class:`BlobError` for all other
    failures: :class:`StorageUnavailable` or :class:`StorageFull` if they concern the whole store.
    Each call ends in time. After one that was not answered, further ones fail at once for a while.
    """

    def __init__(
        self,
        url: str,
        credentials: Mapping[str, str] | None = None,
        *,
        waits: Patience = patience.OF_WORKERS,
    ) -> None:
        parts = urlsplit(url)
        self._store: ObjectStore
        self._folder: Path | None = None
        #: Makes the calls to a folder.
        self._files = FileCalls(answer_s=waits.attempt_s)
        #: Admits the calls to a bucket.
        self._breaker = StoreBreaker()
        if parts.scheme == "file":
            folder = Path(unquote(parts.path))
            self._files.run(partial(durable.make_folder, folder))
            self._store = LocalStore(folder, automatic_cleanup=True)
            self._folder = folder
        else:
            config = cast("S3Config", dict(credentials or {}))
            self._store = from_url(
                url, config=config, client_options=waits.client(), retry_config=waits.retries()
            )
        #: The blobs in memory; None for a key that has none yet.
        self._held: dict[str, bytes | None] = {}
        self._behind: dict[str, Behind] = {}
        self._threads = ThreadPoolExecutor(BEHIND_THREADS, thread_name_prefix="blobs")

    @classmethod
    def of(cls, settings: Settings, *, waits: Patience = patience.OF_WORKERS) -> Self:
        """Open the store of an installation.

        Raises
        ------
        SettingsError
            If it is a folder that cannot be created, or a bucket that the library refuses.
        """
        try:
            return cls(settings.blob_url, settings.s3_credentials, waits=waits)
        except (OSError, BaseError) as error:
            reason = getattr(error, "strerror", None) or first_line(error)
            raise SettingsError(f"BLOB_URL cannot be used: {reason}") from error

    @contextmanager
    def in_memory(self, *keys: str) -> Iterator[None]:
        """Hold the blobs of some keys in the memory of this process, until the end of the block.

        For what one run writes and reads, and no row names.
        """
        self._held |= dict.fromkeys(keys)
        try:
            yield
        finally:
            for key in keys:
                del self._held[key]

    @contextmanager
    def behind(self, *keys: str) -> Iterator[None]:
        """Store the blobs of some keys in other threads; the block ends when all are stored.

        To flush a small file takes longer than to compute it. Until the end the process reads these
        blobs from memory.

        Raises
        ------
        BlobError
            At the end of the block, if a blob could not be stored.
        """
        stored = Behind(self._threads, keys, put=self._put_behind, finish=self._flush_names)
        with self.in_memory(*keys):
            self._behind |= dict.fromkeys(keys, stored)
            try:
                yield
            finally:
                # Also after an error, so that the caller can remove what was stored.
                stored.wait()
                for key in keys:
                    del self._behind[key]
        stored.check()

    def put(self, key: str, content: bytes | Iterable[bytes]) -> None:
        """Store a blob atomically: nothing appears if ``content`` raises.

        After the return the blob survives a power failure, so that a row may name it.
        """
        if key not in self._held:
            self._put(key, content)
            return
        whole = content if isinstance(content, bytes) else b"".join(content)
        self._held[key] = whole
        if (stored := self._behind.get(key)) is not None:
            stored.put(key, whole)

    def _put_behind(self, key: str, content: bytes) -> None:
        """Store a blob, but for the flush of its name in a folder."""
        if self._folder is None:
            self._put(key, content)
            return
        writing_it = partial(durable.write, self._folder, key, content)
        with writing():
            self._files.run(writing_it, n_bytes=len(content))

    def _flush_names(self, keys: Iterable[str]) -> None:
        if self._folder is not None:
            with writing():
                self._files.run(partial(durable.flush_names, self._folder, keys))

    def _put(self, key: str, content: bytes | Iterable[bytes]) -> None:
        if self._folder is not None:
            with self.writer(key) as out:
                for piece in [content] if isinstance(content, bytes) else content:
                    out.write(piece)
            return
        pieces = None if isinstance(content, bytes) else errors.BlobPieces(content)
        with self._calling(), writing(pieces):
            obstore.put(
                self._store,
                key,
                content if pieces is None else pieces,
                chunk_size=PART_BYTES,
                max_concurrency=PARTS_AT_ONCE,
            )

    @contextmanager
    def writer(self, key: str) -> Iterator[IO[bytes]]:
        """Write a blob piece by piece, in bounded memory, with the guarantees of :meth:`put`."""
        body = errors.Body()
        calling = nullcontext() if key in self._held else self._calling()
        with calling, writing(body), self._opened(key) as file, body:
            yield cast(IO[bytes], errors.BlobWriter(file))

    @contextmanager
    def _in_memory_writer(self, key: str) -> Iterator[IO[bytes]]:
        file = io.BytesIO()
        yield file
        self.put(key, file.getvalue())

    def _opened(self, key: str) -> AbstractContextManager[Any]:
        if key in self._held:
            return self._in_memory_writer(key)
        if self._folder is not None:
            return files.created(self._folder, key, calls=self._files)
        return obstore.open_writer(
            self._store, key, buffer_size=PART_BYTES, max_concurrency=PARTS_AT_ONCE
        )

    def _held_blob(self, key: str) -> bytes | None:
        """Return a blob that is in memory; None if its key is another's.

        Raises
        ------
        BlobMissing
        """
        if key not in self._held:
            return None
        if (content := self._held[key]) is None:
            raise BlobMissing(key)
        return content

    def get(self, key: str) -> bytes:
        """Return a whole blob. Only for small ones."""
        if (held := self._held_blob(key)) is not None:
            return held
        return self._read(key, lambda: bytes(obstore.get(self._store, key).bytes()))

    def get_range(self, key: str, *, start: int, length: int) -> bytes:
        """Return ``length`` bytes from ``start``."""
        if (held := self._held_blob(key)) is not None:
            return held[start : start + length]
        ranged = partial(obstore.get_range, self._store, key, start=start, length=length)
        return self._read(key, lambda: bytes(ranged()))

    def get_end(self, key: str, length: int) -> tuple[bytes, int]:
        """Return the last ``length`` bytes, or all if there are fewer, and the size of the blob."""
        if (held := self._held_blob(key)) is not None:
            return held[-length:], len(held)

        def end() -> tuple[bytes, int]:
            found = obstore.get(self._store, key, options={"range": {"suffix": length}})
            return bytes(found.bytes()), int(found.meta["size"])

        try:
            return self._read(key, end)
        except StorageUnavailable:
            raise
        except BlobError:
            # A bucket refuses every range of an empty blob.
            if self.size(key) > 0:
                raise
            return b"", 0

    def open(self, key: str) -> io.BufferedReader:
        """Open a blob as a seekable file that is fetched as it is read."""
        if self._folder is not None:
            opened = partial(files.opened, self._folder, key, calls=self._files)
        else:
            opened = partial(bucket_files.opened, self._store, key, calling=self._calling)
        return self._read(key, partial(opened, read_bytes=READ_BYTES))

    def delete(self, *keys: str) -> None:
        """Remove blobs. Missing ones are ignored."""
        for key in keys:
            self._write(partial(self._delete, key))

    def _delete(self, key: str) -> None:
        with suppress(FileNotFoundError):
            obstore.delete(self._store, key)

    def keys(self, prefix: str, *, limit: int | None = None) -> list[str]:
        """Return all keys below a prefix, or the first ``limit`` that are found."""
        self._require_folder()

        def found() -> list[str]:
            paths = (meta["path"] for page in obstore.list(self._store, prefix) for meta in page)
            return list(itertools.islice(paths, limit))

        return self._write(found)

    def named_by(self, prefix: str) -> list[str]:
        """Return the keys of removed blobs (`removed_blobs`): those below a prefix that ends in a
        slash, or the whole key that it is.
        """
        return self.keys(prefix) if prefix.endswith("/") else [prefix]

    def size(self, key: str) -> int:
        """Return the size of a blob in bytes."""
        if (held := self._held_blob(key)) is not None:
            return len(held)
        return self._read(key, lambda: int(obstore.head(self._store, key)["size"]))

    def copy(self, source: str, to: str) -> None:
        """Copy a blob to another key. The two are independent afterwards."""
        if isinstance(self._store, LocalStore):
            # LocalStore's own copy is a hard link: the file could still be written to under its
            # old name, and it is impossible between two file systems.
            with self.open(source) as file, self.writer(to) as copy:
                shutil.copyfileobj(file, copy, READ_BYTES)
            return
        self._read(source, partial(obstore.copy, self._store, source, to))

    def signed_put(self, key: str, *, expires_in: timedelta) -> str | None:
        """Return a signed URL for a PUT of a blob; None if the store does not support it."""
        if not isinstance(self._store, S3Store):
            return None
        with writing():
            return obstore.sign(self._store, "PUT", key, expires_in)

    def keys_older_than(self, age_s: float, prefix: str) -> Iterator[list[str]]:
        """Yield the keys below a prefix that were last written at least ``age_s`` ago, in pages."""
        youngest = datetime.now(UTC) - timedelta(seconds=age_s)
        for page in self.pages(prefix):
            yield [blob.key for blob in page if blob.modified_at < youngest]

    def pages(self, prefix: str) -> Iterator[list[ListedBlob]]:
        """Yield all blobs below a prefix, in pages and in any order."""
        self._require_folder()
        listed = iter(obstore.list(self._store, prefix, chunk_size=PAGE_KEYS))
        while (page := self._write(partial(next, listed, None))) is not None:
            yield [
                ListedBlob(meta["path"], int(meta["size"]), meta["last_modified"]) for meta in page
            ]

    def remove_unfinished(self, *, age_s: float) -> int:
        """Remove unfinished files of killed writers that are older than this; return their number.

        Only in a folder: a bucket keeps the parts of such an upload where no listing shows them,
        and removes them by its own lifecycle rule.
        """
        removed, oldest = 0, time.time() - age_s
        for path in self._folder.rglob("*#*") if self._folder else ():
            with suppress(FileNotFoundError):
                if durable.UNFINISHED.fullmatch(path.name) and path.stat().st_mtime < oldest:
                    path.unlink()
                    removed += 1
        return removed

    def room(self) -> Room | None:
        """Return the space on the disk; None for a bucket, where it is unknown."""
        if self._folder is None:
            return None
        self._require_folder()
        usage = self._write(partial(shutil.disk_usage, self._folder))
        return Room(free=usage.free, total=usage.total)

    def check(self) -> None:
        """Raise :class:`StorageUnavailable` unless the store can be written to.

        Without free space it is :class:`StorageFull`.

        For a folder, the free space is checked and one block is written to an unnamed temporary
        file. Whether a bucket has space, only a failing upload shows.
        """
        room = self.room()
        self._write(self._probe, is_probe=True)
        if room is not None and room.free < min(LEAST_ROOM_BYTES, room.total * LEAST_ROOM_SHARE):
            raise StorageFull

    def _probe(self) -> None:
        next(iter(obstore.list(self._store, "health/")), None)
        if self._folder is not None:
            with tempfile.TemporaryFile(dir=self._folder, buffering=0) as probe:
                probe.write(bytes(PROBE_BYTES))

    def _calling(self, *, is_probe: bool = False) -> AbstractContextManager[None]:
        """Return the context of a call to a bucket."""
        if self._folder is not None:
            return nullcontext()
        return self._breaker.call(is_probe=is_probe)

    def _write(self, do: Callable[[], T], *, is_probe: bool = False) -> T:
        """Make a call that writes or lists."""
        with self._calling(is_probe=is_probe), writing():
            return do() if self._folder is None else self._files.run(do)

    def _read(self, key: str, do: Callable[[], T]) -> T:
        """Make a call that reads a blob.

        Translate its errors: the blob is missing, unreadable, or the store is unavailable.
        """
        try:
            with self._calling(), reading():
                return do() if self._folder is None else self._files.run(do)
        except StorageUnavailable:
            self._require_folder()
            raise
        except FileNotFoundError:
            # The blob is missing, unless the whole store is.
            self._require_folder()
            raise BlobMissing(key) from None

    def _require_folder(self) -> None:
        """Raise :class:`StorageUnavailable` if the folder is missing.

        A missing folder means a disk that was detached and may come back. It is not created again,
        and its blobs are not considered lost.
        """
        if self._folder is not None and not self._files.run(self._folder.is_dir):
            raise StorageUnavailable("the folder of the blob store is not there")
