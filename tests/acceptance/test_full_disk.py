"""A disk that is full for ten minutes gives up no work, with the product's own attempts and leases.

The disk, the API and the worker are real. The waits between two attempts are skipped: a row that
waits for storage becomes due at once, and the skipped time counts. `make chaos` with
``--full-s 600`` waits for the ten minutes.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from db.settings import Settings
from db.store import Store
from services.client import ApiError, Client
from tests.chaos.stores import FolderStore
from tests.support import outages, recordings
from tests.support.cluster import Cluster, eventually

pytestmark = pytest.mark.acceptance

FULL_S = 600.0
N_SESSIONS = 2
#: The end of the test on a busy machine.
LIMIT_S = 200.0
#: Makes the rows due that wait for storage and have no claim; returns how long each would wait.
SKIP_WAITS = text(
    "WITH waiting AS (SELECT session_id, due_at - clock_timestamp() AS left_s"
    "  FROM unfinished_sessions"
    "  WHERE waits_for_storage AND due_at > clock_timestamp()"
    "  AND NOT session_id = ANY (CAST(:done AS uuid[])) FOR UPDATE)"
    " UPDATE unfinished_sessions AS due SET due_at = clock_timestamp(), nudged_at = '-infinity'"
    " FROM waiting WHERE waiting.session_id = due.session_id"
    " RETURNING due.session_id, extract(epoch FROM left_s)::float"
)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[FolderStore]:
    with outages.small_disk(tmp_path) as made:
        yield made


def test_ten_minutes_of_a_full_disk_give_up_nothing(
    rabbit_settings: Settings, store: Store, disk: FolderStore, tmp_path: Path
) -> None:
    settings = Settings(
        database_url=rabbit_settings.database_url,
        amqp_url=rabbit_settings.amqp_url,
        blob_url=disk.url,
        queue_prefix=rabbit_settings.queue_prefix,
        key_pepper=rabbit_settings.key_pepper,
        secret_keys=rabbit_settings.secret_keys,
        backbone_url="off",
        # Rows that are made due are found sooner.
        recovery_s=0.5,
    )
    recording = tmp_path / "demo.flac"
    recording.write_bytes(recordings.encode(recordings.demo()))
    with Cluster(settings, tmp_path) as cluster, cluster.api() as client:
        worker = cluster.worker()
        # It finds the work only when the disk is full.
        worker.freeze()
        posted = [client.upload(recording) for _ in range(N_SESSIONS)]
        with outages.full(disk):
            worker.thaw()
            assert not is_ready(client)
            waited_s, attempts = wait_out(store)
        assert len(waited_s) == N_SESSIONS
        # More than any other failure may use up.
        assert min(attempts.values()) > settings.max_attempts
        eventually(lambda: is_ready(client), what="an API with a disk")
        assert {client.wait(session_id).state for session_id in posted} == {"completed"}
        assert client.wait(client.upload(recording)).state == "completed"
    assert "given_up" not in worker.log.read_text()


def wait_out(store: Store) -> tuple[dict[str, float], Counter[str]]:
    """Let each session try until it has waited for :data:`FULL_S`; return waits and attempts."""
    waited_s: dict[str, float] = {}
    attempts: Counter[str] = Counter()
    deadline = time.monotonic() + LIMIT_S
    while len(waited_s) < N_SESSIONS or min(waited_s.values()) < FULL_S:
        assert time.monotonic() < deadline, (waited_s, attempts)
        with store.transaction() as tx:
            # Those that have waited long enough leave the worker to the others.
            done = [each for each, total_s in waited_s.items() if total_s >= FULL_S]
            skipped = tx.execute(SKIP_WAITS, {"done": done}).all()
        for session_id, left_s in skipped:
            waited_s[str(session_id)] = waited_s.get(str(session_id), 0.0) + left_s
            attempts[str(session_id)] += 1
        time.sleep(0.1)
    return waited_s, attempts


def is_ready(client: Client) -> bool:
    """Return whether the API is ready."""
    try:
        return client.ready()
    except ApiError:
        return False
