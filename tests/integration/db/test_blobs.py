"""The blob store keeps one contract over a folder and over S3."""

from __future__ import annotations

import io
import os
import shutil
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest
from obstore.exceptions import PermissionDeniedError

from db.blobs.blob_store import PART_BYTES, READ_BYTES, Blobs
from db.blobs.errors import BlobError, BlobMissing, StorageUnavailable
from db.blobs.keys import product_key, recording_key, session_prefix
from db.blobs.patience import Patience
from tests.support import s3

pytestmark = pytest.mark.integration

#: More than two parts, and not a multiple of the part size.
LARGE = bytes(range(251)) * (2 * PART_BYTES // 251 + 1_000)


@pytest.fixture
def key() -> str:
    return recording_key(uuid.uuid4())


def test_what_was_put_is_read_whole_in_ranges_and_as_a_file(blobs: Blobs, key: str) -> None:
    blobs.put(key, iter([LARGE[:10], LARGE[10 : PART_BYTES + 3], LARGE[PART_BYTES + 3 :]]))
    assert blobs.get(key) == LARGE
    start = PART_BYTES - 5
    assert blobs.get_range(key, start=start, length=10) == LARGE[start : start + 10]
    assert blobs.get_end(key, 10) == (LARGE[-10:], len(LARGE))
    with blobs.open(key) as file:
        assert file.seek(-7, io.SEEK_END) == len(LARGE) - 7
        assert file.read() == LARGE[-7:]
        assert file.read(1) == b""
        file.seek(3)
        assert file.read(2 * 1024 * 1024) == LARGE[3 : 3 + 2 * 1024 * 1024]


def test_an_empty_blob_is_kept(blobs: Blobs, key: str) -> None:
    blobs.put(key, iter(()))
    with blobs.open(key) as file:
        assert file.read() == b""


def test_a_writer_stores_piece_by_piece(blobs: Blobs, key: str) -> None:
    with blobs.writer(key) as writer:
        for start in range(0, len(LARGE), 1_000_003):
            writer.write(LARGE[start : start + 1_000_003])
    assert blobs.get(key) == LARGE


def test_an_upload_that_breaks_off_leaves_nothing(blobs: Blobs, key: str) -> None:
    def broken() -> Iterator[bytes]:
        yield LARGE
        raise ConnectionError("the client is gone")

    with pytest.raises(ConnectionError):
        blobs.put(key, broken())
    with pytest.raises(BlobMissing):
        blobs.get(key)


def test_what_is_missing_is_said_to_be(blobs: Blobs, key: str) -> None:
    for read in (
        lambda: blobs.get(key),
        lambda: blobs.get_range(key, start=0, length=1),
        lambda: blobs.get_end(key, 1),
        lambda: blobs.open(key),
    ):
        with pytest.raises(BlobMissing):
            read()
    blobs.delete(key)


def test_blobs_are_stored_behind_the_computation(
    blobs: Blobs, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are read from memory at once, and are stored at the end of the block."""
    may_store, put = threading.Event(), blobs._put_behind

    def put_later(key: str, content: bytes) -> None:
        assert may_store.wait(60)
        put(key, content)

    monkeypatch.setattr(blobs, "_put_behind", put_later)
    other = f"{key}-2"
    with blobs.behind(key, other):
        blobs.put(key, b"levels")
        blobs.put(other, iter([b"pi", b"cture"]))
        assert (blobs.get(key), blobs.get(other)) == (b"levels", b"picture")
        may_store.set()
    assert (blobs.get(key), blobs.get(other)) == (b"levels", b"picture")
    with suppress(ZeroDivisionError), blobs.behind(key):
        blobs.put(key, b"of a computation that fails")
        raise ZeroDivisionError
    assert blobs.get(key) == b"of a computation that fails"
    blobs.delete(key)
    with pytest.raises(BlobMissing):
        blobs.get(key)


def test_a_blob_that_cannot_be_stored_behind_fails_the_block(
    blobs: Blobs, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    put, other = blobs._put_behind, f"{key}-2"

    def fail(failing: str, content: bytes) -> None:
        if failing == key:
            raise StorageUnavailable
        put(failing, content)

    monkeypatch.setattr(blobs, "_put_behind", fail)

    def put_both() -> None:
        with blobs.behind(key, other):
            blobs.put(other, b"picture")
            blobs.put(key, b"levels")

    with pytest.raises(StorageUnavailable):
        put_both()
    with pytest.raises(BlobMissing):
        blobs.get(key)
    assert blobs.get(other) == b"picture"


def test_blobs_in_memory_are_seen_by_this_process_alone(blobs: Blobs, key: str) -> None:
    blobs.put(f"{key}-other", b"kept")
    with blobs.in_memory(key):
        with pytest.raises(BlobMissing):
            blobs.size(key)
        with blobs.writer(key) as out:
            for piece in (b"ab", b"", b"cde"):
                out.write(piece)
        assert (blobs.get(key), blobs.size(key)) == (b"abcde", 5)
        assert blobs.get_range(key, start=1, length=3) == b"bcd"
        blobs.put(key, b"again")
        assert blobs.get(key) == b"again"
        assert blobs.get(f"{key}-other") == b"kept"
        assert blobs.keys(key.removesuffix("recording")) == [f"{key}-other"]
        blobs.delete(key)
    with pytest.raises(BlobMissing):
        blobs.get(key)


def test_keys_below_a_prefix(blobs: Blobs) -> None:
    session_id, other = uuid.uuid4(), uuid.uuid4()
    pcm = product_key(session_id, "pcm", attempt=2)
    for stored in (recording_key(session_id), pcm, recording_key(other)):
        blobs.put(stored, b"x")
    assert set(blobs.keys(session_prefix(session_id))) == {recording_key(session_id), pcm}
    blobs.delete(pcm, recording_key(session_id))
    assert blobs.keys(session_prefix(session_id)) == []
    blobs.check()


def test_no_key_leaves_the_store(tmp_path: Path) -> None:
    blobs = Blobs((tmp_path / "inner").as_uri())
    for key in ("../outside", "a/../../outside", "/../outside"):
        with pytest.raises(Exception, match=r"(?i)path|segment"):
            blobs.put(key, b"x")
    assert list(tmp_path.rglob("outside")) == []


def test_a_copy_has_nothing_to_do_with_what_it_was_made_of(blobs: Blobs, key: str) -> None:
    source = f"inbox/{uuid.uuid4()}/a b.wav"
    blobs.put(source, LARGE)
    blobs.copy(source, key)
    blobs.put(source, b"another")
    assert (blobs.size(source), blobs.size(key)) == (7, len(LARGE))
    blobs.delete(source)
    assert blobs.get(key) == LARGE
    looks: list[Callable[[str], object]] = [blobs.size, lambda name: blobs.copy(name, key)]
    for missing in looks:
        with pytest.raises(BlobMissing):
            missing(source)
    assert blobs.get(key) == LARGE


def test_only_so_many_keys_are_listed(blobs: Blobs) -> None:
    folder = f"inbox/{uuid.uuid4()}"
    for index in range(5):
        blobs.put(f"{folder}/{index}", b"x")
    assert len(blobs.keys(folder, limit=3)) == 3
    assert len(blobs.keys(f"{folder}/")) == 5


def test_what_lies_behind_the_end_is_no_outage(blobs: Blobs, key: str) -> None:
    blobs.put(key, b"123")
    with pytest.raises(BlobError) as raised:
        blobs.get_range(key, start=5, length=2)
    assert not isinstance(raised.value, StorageUnavailable)


@pytest.mark.parametrize("content", [b"", b"123"])
def test_an_end_longer_than_the_blob_is_all_of_it(blobs: Blobs, key: str, content: bytes) -> None:
    blobs.put(key, content)
    assert blobs.get_end(key, 10) == (content, len(content))
    with blobs.in_memory("held"):
        blobs.put("held", content)
        assert blobs.get_end("held", 10) == (content, len(content))


def write(blobs: Blobs) -> None:
    with blobs.writer("w") as file:
        file.write(bytes(12_000_000))


def test_a_store_that_is_away_is_away_for_every_call(monkeypatch: pytest.MonkeyPatch) -> None:
    # Each call is to fail by itself.
    monkeypatch.setattr("db.blobs.breaker.FIRST_PAUSE_S", 0.0)
    waits = Patience(attempt_s=5.0, retries_s=0.1)
    with s3.private_s3() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        blobs = Blobs(f"s3://{s3.BUCKET}/away", waits=waits)
        blobs.put("a", b"123")
        begun = blobs.open("a")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
        with pytest.raises(StorageUnavailable, match="403"):
            Blobs(f"s3://{s3.BUCKET}/away", waits=waits).get("a")
        server.kill()
        for call in (
            lambda: blobs.get("a"),
            lambda: blobs.get_range("a", start=0, length=1),
            lambda: blobs.get_end("a", 1),
            lambda: blobs.open("a"),
            begun.read,
            lambda: blobs.put("b", b""),
            lambda: blobs.put("b", iter([b"1"])),
            lambda: write(blobs),
            lambda: blobs.keys(""),
            lambda: blobs.size("a"),
            lambda: blobs.copy("a", "b"),
            lambda: blobs.delete("a"),
            blobs.check,
            lambda: list(blobs.keys_older_than(0, "")),
        ):
            with pytest.raises(StorageUnavailable):
                call()


def test_what_a_caller_raises_while_it_writes_is_passed_on(blobs: Blobs, key: str) -> None:
    def pieces() -> Iterator[bytes]:
        yield b"1"
        raise ConnectionResetError(104, "Connection reset by peer")

    with pytest.raises(ConnectionResetError):
        blobs.put(key, pieces())
    with pytest.raises(ConnectionResetError), blobs.writer(key) as file:
        shutil.copyfileobj(_Breaking(), file)


class _Breaking(io.RawIOBase):
    def read(self, _size: int = -1) -> bytes:
        raise ConnectionResetError(104, "Connection reset by peer")


def test_an_address_that_cannot_be_signed_is_an_error_of_the_store(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_args: object) -> None:
        raise PermissionDeniedError("no credentials at 10.0.0.1")

    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setattr("obstore.sign", fail)
    with pytest.raises(StorageUnavailable):
        Blobs("s3://clamor").signed_put("uploads/a", expires_in=timedelta(hours=1))


@pytest.mark.parametrize("size", [0, READ_BYTES, READ_BYTES + 1])
def test_a_file_of_any_size_is_read_from_any_position(tmp_path: Path, size: int) -> None:
    blobs, content = Blobs(tmp_path.as_uri()), LARGE[:size]
    blobs.put("inbox/a b#x.wav", content)
    with blobs.open("inbox/a b#x.wav") as file:
        assert file.seek(-min(5, size), io.SEEK_END) == size - min(5, size)
        assert file.read() == content[size - min(5, size) :]
        assert file.seek(size // 2) == file.tell() == size // 2
        assert file.read() == content[size // 2 :]


def test_what_is_no_file_is_missing(tmp_path: Path) -> None:
    """A named pipe, too: to open it would wait for its writer."""
    blobs = Blobs(tmp_path.as_uri())
    (tmp_path / "inbox/folder").mkdir(parents=True)
    os.mkfifo(tmp_path / "inbox/pipe")
    (tmp_path / "inbox/unfinished#1").touch()
    for key in ("inbox/folder", "inbox/pipe", "inbox/unfinished#1", "inbox/pipe/x", "x" * 300):
        with pytest.raises(BlobMissing):
            blobs.open(key)
