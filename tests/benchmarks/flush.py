"""Measure the cost of flushing recordings to disk: uploads per second with and without, in turns.

    .venv/bin/python -m tests.benchmarks.flush FOLDER

The API runs in this process, with a real Postgres and a folder of blobs below FOLDER.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import falcon.testing
import pytest

from actors.messaging import broker
from actors.messaging.broker import Publisher
from db import migrate
from db.blobs.blob_store import Blobs
from db.settings import Settings
from db.store import Store
from services.app import create_app
from services.http.deps import Deps
from tests.support import accounts, servers

#: Seconds of a turn, and number of turns with and without flushing.
TURN_S, TURNS = 2.0, 6
SIZES = {"32 kB": 32_000, "1 MB": 1_000_000}
THREADS = (1, 8)


def main() -> None:
    """Print the median uploads per second of each kind, and the time per upload."""
    with (
        servers.postgres() as server_url,
        servers.database(server_url) as url,
        tempfile.TemporaryDirectory(dir=sys.argv[1]) as folder,
    ):
        migrate.upgrade(url)
        accounts.add_first(url)
        settings = Settings(
            database_url=url,
            amqp_url="memory://",
            blob_url=Path(folder).as_uri(),
            key_pepper=accounts.PEPPER,
            secret_keys=accounts.SECRET_KEYS,
            rate_limit_per_s=0.0,
            access_log=False,
        )
        store = Store(settings.database_url, pool_size=10)
        publisher = Publisher(broker.setup(settings), prefix=settings.queue_prefix)
        given = Deps(
            settings=settings, store=store, blobs=Blobs(settings.blob_url), publisher=publisher
        )
        api = accounts.client(create_app(given))
        print("| size | threads | flushed | not flushed | ms per upload |")
        for name, n_bytes in SIZES.items():
            for n_threads in THREADS:
                _compare(api, given.blobs, name, b"fLaC" + bytes(n_bytes), n_threads)
        publisher.close()
        store.close()


def _compare(
    api: falcon.testing.TestClient, blobs: Blobs, name: str, body: bytes, n_threads: int
) -> None:
    rates: dict[bool, list[float]] = {True: [], False: []}
    for turn in range(2 * TURNS):
        flushed = turn % 2 == 0
        with pytest.MonkeyPatch.context() as patch:
            if not flushed:
                patch.setattr(os, "fsync", lambda _descriptor: None)
            rates[flushed].append(_rate(api, body, n_threads))
        blobs.delete(*blobs.keys("sessions/"))
    with_it, without = (statistics.median(rates[each]) for each in (True, False))
    each_ms = [1_000 * n_threads / rate for rate in (with_it, without)]
    print(
        f"| {name} | {n_threads} | {with_it:.0f}/s | {without:.0f}/s"
        f" | {each_ms[0]:.1f}, {each_ms[1]:.1f} |",
        flush=True,
    )


def _rate(api: falcon.testing.TestClient, body: bytes, n_threads: int) -> float:
    headers = {"Content-Type": "application/octet-stream"}
    ends_at = time.monotonic() + TURN_S

    def post(_index: int) -> int:
        n_posted = 0
        while time.monotonic() < ends_at:
            assert api.simulate_post("/v1/sessions", body=body, headers=headers).status_code == 202
            n_posted += 1
        return n_posted

    started = time.monotonic()
    with ThreadPoolExecutor(n_threads) as pool:
        n_posted = sum(pool.map(post, range(n_threads)))
    return n_posted / (time.monotonic() - started)


if __name__ == "__main__":
    main()
