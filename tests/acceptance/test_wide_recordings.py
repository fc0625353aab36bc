"""A recording that is small to send and long to decode does not hold a worker against others."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from db.settings import Settings
from db.store import Store
from services.client import Client
from tests.support import accounts, recordings, wide
from tests.support.cluster import Cluster, eventually

pytestmark = pytest.mark.acceptance

#: Minutes of a worker's time, on a busy machine: longer than the test.
WIDE_S = 300
#: The wait for two pieces, and the clip itself. Without pieces it is the time of the recording.
MOST_S = 15.0
CLIPS = 3
#: Twenty seconds of a worker's time or more: several turns, and not too long to be split twice.
SHARED_S = 150
#: Different percentages of each recording, seen while both are split.
STEPS = 4


@contextmanager
def user(settings: Settings, url: str, name: str) -> Iterator[Client]:
    """Add a user, and yield their client."""
    store = Store(settings.database_url, pool_size=1)
    with store.transaction() as tx:
        key = accounts.add_key(tx, accounts.add_user(tx, uuid.uuid4(), f"{name}@example.org"))
    store.close()
    with closing(Client(url, key=key)) as client:
        yield client


def written(folder: Path, *, wide_s: int) -> tuple[Path, Path]:
    """Write a wide recording of so many seconds, and a clip; return their files."""
    long, clip = folder / "wide.flac", folder / "clip.flac"
    long.write_bytes(wide.silence(wide_s))
    clip.write_bytes(recordings.encode(recordings.demo()[: 3 * recordings.RATE_HZ]))
    return long, clip


def test_a_clip_of_another_waits_for_a_piece_of_a_wide_recording(
    rabbit_settings: Settings, tmp_path: Path
) -> None:
    long, clip = written(tmp_path, wide_s=WIDE_S)
    with (
        Cluster(rabbit_settings, tmp_path) as cluster,
        cluster.api() as other,
        closing(Client(other.url, key=accounts.KEY)) as hostile,
    ):
        cluster.worker()
        # The first clip of a worker loads its libraries.
        assert other.wait(other.upload(clip)).state == "completed"
        wide_ids = [hostile.upload(long).id for _ in range(2)]
        eventually(
            lambda: any(hostile.session(each).state == "splitting" for each in wide_ids),
            what="a wide recording that is decoded",
        )
        for _ in range(CLIPS):
            began = time.monotonic()
            assert other.wait(other.upload(clip)).state == "completed"
            assert time.monotonic() - began < MOST_S
        # They are being decoded still, and nothing of them was given up.
        assert {hostile.session(each).state for each in wide_ids} == {"splitting"}
        for each in wide_ids:
            hostile.cancel(each)


def test_wide_recordings_of_two_users_progress_together_and_survive_a_kill(
    rabbit_settings: Settings, tmp_path: Path
) -> None:
    long, clip = written(tmp_path, wide_s=SHARED_S)
    with (
        Cluster(rabbit_settings, tmp_path) as cluster,
        cluster.api() as third,
        user(rabbit_settings, third.url, "first") as first,
        user(rabbit_settings, third.url, "second") as second,
    ):
        worker = cluster.worker()
        assert third.wait(third.upload(clip)).state == "completed"
        wide_ids = {client: client.upload(long).id for client in (first, second)}
        seen: dict[Client, set[float]] = {client: set() for client in wide_ids}

        def both_have_grown() -> bool:
            for client, session_id in wide_ids.items():
                session = client.session(session_id)
                # Neither waits for the end of the other.
                assert session.state in ("queued", "splitting")
                if session.state == "splitting":
                    seen[client].add(session.percent)
            return min(map(len, seen.values())) >= STEPS

        eventually(both_have_grown, timeout_s=120.0, what=f"progress of both: {seen}")
        began = time.monotonic()
        assert third.wait(third.upload(clip)).state == "completed"
        assert time.monotonic() - began < MOST_S
        assert {each.session(wide_ids[each]).state for each in wide_ids} == {"splitting"}

        worker.kill()
        cluster.worker()
        for client, session_id in wide_ids.items():
            ended = client.wait(client.session(session_id))
            assert ended.state == "completed"
            assert ended.duration_s == SHARED_S
