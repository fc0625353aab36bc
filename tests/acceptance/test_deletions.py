"""Sessions are deleted at random while real workers process them, and one of these is killed."""

from __future__ import annotations

import random
import time
import uuid
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select, text, update

from actors.execution import watchdog
from db.blobs.blob_store import Blobs
from db.blobs.keys import folder_id
from db.settings import Settings
from db.store import Store
from db.tables.base import Base
from db.tables.retention import RemovedBlobs
from services.client import Client
from tests.support import recordings
from tests.support.cluster import Cluster, eventually

pytestmark = pytest.mark.acceptance

N_SHORT, N_LONG, N_DELETED = 20, 6, 16
#: The answer to a deletion, also while its session is being processed.
ANSWERED_S = 2.0
#: Tables whose rows outlive their session by design: docs/privacy.md.
OUTLIVE = {"api_requests", "idempotent_requests", "processing_metrics", "removed_blobs"}


def delete_at_random(client: Client, ids: list[uuid.UUID], chance: random.Random) -> float:
    """Delete sessions at random times; return the seconds of the slowest answer."""
    slowest_s = 0.0
    for session_id in ids:
        time.sleep(chance.uniform(0.0, 0.6))
        began = time.monotonic()
        client.delete(session_id)
        slowest_s = max(slowest_s, time.monotonic() - began)
    return slowest_s


def tables_with(store: Store, ids: list[uuid.UUID]) -> set[str]:
    """Return the tables with a row that contains one of some IDs."""
    patterns = {"words": [f"%{each}%" for each in ids]}
    with store.transaction() as tx:
        return {
            name
            for name in set(Base.metadata.tables) - OUTLIVE
            if tx.execute(
                text(f"SELECT 1 FROM {name} t WHERE t::text LIKE ANY (:words) LIMIT 1"),  # noqa: S608
                patterns,
            ).first()
        }


@pytest.mark.parametrize("one_claim_s", [0.0, 60.0])
def test_nothing_of_a_deleted_session_remains(
    rabbit_settings: Settings, store: Store, tmp_path: Path, one_claim_s: float
) -> None:
    settings = replace(rabbit_settings, one_claim_s=one_claim_s)
    blobs, chance = Blobs.of(settings), random.Random(int(one_claim_s))
    short = recordings.write(tmp_path / "a.flac", recordings.encode(recordings.demo()))
    long = recordings.write(tmp_path / "b.flac", recordings.encode(recordings.long(2.2)))
    with Cluster(settings, tmp_path) as cluster, cluster.api() as client:
        doomed = cluster.worker()
        files = [short] * N_SHORT + [long] * N_LONG
        chance.shuffle(files)
        ids = [client.upload(file).id for file in files]
        eventually(lambda: any(client.session(each).started_at for each in ids), what="a start")
        chosen = chance.sample(ids, N_DELETED)
        slowest_s = delete_at_random(client, chosen[: N_DELETED // 2], chance)
        doomed.kill()
        cluster.worker()
        slowest_s = max(slowest_s, delete_at_random(client, chosen[N_DELETED // 2 :], chance))
        kept = [each for each in ids if each not in chosen]
        for session_id in kept:
            assert client.wait(client.session(session_id)).state == "completed"
        assert tables_with(store, chosen) == set()

        def folders() -> set[uuid.UUID | None]:
            return {folder_id(key) for key in blobs.keys("sessions/")}

        # As if no worker could be writing any more: what the killed one has left is removed too.
        by = timedelta(seconds=watchdog.silent_after_s(settings) + 1)
        with store.transaction() as tx:
            tx.execute(update(RemovedBlobs).values(finished_at=RemovedBlobs.finished_at - by))

        def is_finally_removed() -> bool:
            with store.transaction() as tx:
                return not tx.execute(select(func.count()).select_from(RemovedBlobs)).scalar_one()

        eventually(is_finally_removed, what="the last removal")
        assert folders() == set(kept)
        assert tables_with(store, chosen) == set()
    print(f"slowest answer to a deletion: {slowest_s:.3f} s")
    assert slowest_s < ANSWERED_S
