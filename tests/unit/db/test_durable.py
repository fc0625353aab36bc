"""A blob's file is on disk before it gets its name, and the name before the write counts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from db.blobs import durable
from db.blobs.blob_store import Blobs
from tests.support.disk import Disk


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(tmp_path / "blobs", monkeypatch)


@pytest.mark.parametrize("content", [b"x" * 3_000_000, iter([b"a", b"b"]), iter(())])
def test_a_blob_that_was_put_is_on_disk_with_all_its_folders(disk: Disk, content: bytes) -> None:
    Blobs(disk.root.as_uri()).put("sessions/1/recording", content)
    assert disk.lost() == []
    # The file, its folder, the folder above, the store, and the store's parent.
    assert disk.n_flushes == 5


def test_what_a_writer_wrote_is_on_disk_at_its_end(disk: Disk) -> None:
    blobs = Blobs(disk.root.as_uri())
    with blobs.writer("a/b") as file:
        file.write(b"x")
        assert not (disk.root / "a" / "b").exists()
    assert disk.lost() == []
    blobs.copy("a/b", "c/d")
    assert disk.lost() == []
    assert blobs.get("c/d") == b"x"


def test_what_the_library_writes_by_itself_would_be_lost(disk: Disk) -> None:
    """Shows that the recorder can detect a loss."""
    (disk.root / "a").mkdir(parents=True)
    (disk.root / "a" / "b").write_bytes(b"x")
    assert disk.lost() == ["a/b"]


@pytest.mark.parametrize("content", [b"after", bytes(3_000_000)], ids=["small", "large"])
def test_the_content_is_flushed_before_the_name_is_given(
    disk: Disk, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    """Thus an overwritten blob is never half of the new one."""
    blobs = Blobs(disk.root.as_uri())
    blobs.put("a", b"before")
    seen = []
    replace = os.replace

    def renamed(source: Path, to: Path) -> None:
        seen.append((disk.is_flushed(source), to.read_bytes()))
        replace(source, to)

    monkeypatch.setattr(os, "replace", renamed)
    blobs.put("a", content)
    assert seen == [(True, b"before")]
    assert blobs.get("a") == content


def test_a_disk_that_cannot_flush_refuses_the_blob(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs = Blobs(tmp_path.as_uri())
    blobs.put("a/b", b"before")

    def refuse(_descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", refuse)
    for key in ("a/b", "c/d"):
        with pytest.raises(OSError, match="Input/output error"):
            blobs.put(key, b"after")
    assert blobs.get("a/b") == b"before"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "b"]


@pytest.mark.parametrize(
    "key", ["", "/a", "a/", "a//b", ".", "a/..", "../a", "a/./b", "a\0b", "a\nb", "a#1"]
)
def test_a_key_stays_below_its_folder(tmp_path: Path, key: str) -> None:
    root = tmp_path / "blobs"
    root.mkdir()
    with pytest.raises(ValueError, match="path segment"), durable.create(root, key):
        pass
    assert list(tmp_path.rglob("*")) == [root]


def test_a_folder_that_a_removal_took_away_meanwhile_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Removing the last blob of a folder removes the folder."""
    opened = Path.open
    left = [2]

    def taken_away(self: Path, *args: object, **more: object) -> object:
        if left[0]:
            left[0] -= 1
            self.parent.rmdir()
        return opened(self, *args, **more)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", taken_away)
    Blobs(tmp_path.as_uri()).put("a/b/c", b"x")
    monkeypatch.undo()
    assert (tmp_path / "a" / "b" / "c").read_bytes() == b"x"


def test_a_store_that_was_taken_away_is_not_made_again(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), durable.create(tmp_path / "away", "a/b"):
        pass
    assert not (tmp_path / "away").exists()
