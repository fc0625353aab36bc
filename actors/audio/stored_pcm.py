"""Decoded audio as it is stored: packed in the blob store, or raw in the memory of one claim."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Protocol

import structlog

from actors.audio import products
from actors.science.audio_io.packed_pcm import DamagedPcm, PackedPcm, Packer
from actors.science.audio_io.prepare import PCM_BYTES
from db.blobs.blob_store import Blobs
from db.blobs.errors import BlobMissing

log = structlog.get_logger(__name__)


class StoredPcm(Protocol):
    """Decoded audio of which any part can be read."""

    n_samples: int

    def read(self, start: int, stop: int) -> bytes:
        """Return the samples ``[start, stop)`` as int16 little-endian PCM."""


@contextmanager
def writer(blobs: Blobs, key: str) -> Iterator[Callable[[bytes], object]]:
    """Return a function that stores PCM piece by piece, in bounded memory."""
    with blobs.writer(key) as file:
        if not products.is_packed(key):
            yield file.write
            return
        packer = Packer(file.write)
        yield packer.write
        packer.finish()


def opened(blobs: Blobs, key: str) -> StoredPcm:
    """Open decoded audio for reading.

    Its readers raise :class:`BlobMissing` also if it is damaged: it can be made again.
    """
    return _Packed(blobs, key) if products.is_packed(key) else _Raw(blobs, key)


class _Raw:
    def __init__(self, blobs: Blobs, key: str) -> None:
        self._blobs = blobs
        self._key = key
        self.n_samples = blobs.size(key) // PCM_BYTES

    def read(self, start: int, stop: int) -> bytes:
        length = (stop - start) * PCM_BYTES
        return self._blobs.get_range(self._key, start=start * PCM_BYTES, length=length)


class _Packed:
    def __init__(self, blobs: Blobs, key: str) -> None:
        self._key = key

        def read_range(start: int, length: int) -> bytes:
            return blobs.get_range(key, start=start, length=length)

        with self._whole():
            self._pcm = PackedPcm(partial(blobs.get_end, key), read_range)
        self.n_samples = self._pcm.n_samples

    def read(self, start: int, stop: int) -> bytes:
        with self._whole():
            return self._pcm.read(start, stop)

    @contextmanager
    def _whole(self) -> Iterator[None]:
        try:
            yield
        except DamagedPcm as damaged:
            log.warning("decoded_audio_damaged", key=self._key)
            raise BlobMissing(self._key) from damaged
