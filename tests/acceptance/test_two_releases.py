"""The previous release and this one on one schema, while recordings are posted and read.

The previous release is the commit in ``previous_commit``. This one is a copy of the working tree
with one more revision, so that there always is something to migrate.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import psycopg
import pytest

from actors.execution.runtime import Runtime
from actors.messaging import broker
from db.migration.chain import RevisionChain
from db.settings import Settings
from services.client import Client
from services.processes.server import free_port
from tests.support import recordings, releases, servers
from tests.support.cluster import Cluster, Process, eventually
from tests.support.pipeline import detections_of, run_to_the_end, session, split
from tests.support.traffic import Endpoints, Traffic

pytestmark = pytest.mark.acceptance

#: Recordings that are posted and completed in each phase.
FLOW = 10
RECORDING = recordings.encode(recordings.demo()[: 5 * recordings.RATE_HZ])
EMAIL = "caller@example.org"


class Release(Cluster):
    """One release: its code, an API and a worker."""

    def __init__(self, code: Path, settings: Settings, logs: Path, endpoints: Endpoints) -> None:
        logs.mkdir()
        super().__init__(settings, logs, code=code)
        self.head = RevisionChain((code / "db" / "migrations" / "versions",)).head
        self._endpoints = endpoints
        self._deployed: list[Process] = []
        self.port = 0

    def deploy(self) -> None:
        """Start an API and a worker; route requests to the API once both are ready."""
        self.port = free_port()
        self._deployed = [self.serve(self.port), self.worker()]
        self._endpoints.add(self.port)

    def withdraw(self) -> None:
        """End the API and the worker, as a rolling deployment does once others are ready."""
        self._endpoints.remove(self.port)
        for process in self._deployed:
            assert process.stop() == 0, process.log.read_text()

    def create_key(self) -> str:
        """Create a user and a key, and return the key."""
        self.run("user", "create", EMAIL)
        scopes = ("--scope", "sessions:write", "--scope", "sessions:read")
        return self.run("key", "create", EMAIL, "--name", "calls", *scopes).strip()


@pytest.fixture
def settings(rabbit_settings: Settings, postgres_url: str) -> Iterator[Settings]:
    """Settings with an empty database."""
    with servers.database(postgres_url) as url:
        # No lease ends while a busy machine starts four processes.
        yield replace(rabbit_settings, database_url=url, lease_s=30.0, rate_limit_per_s=0.0)


def revision(settings: Settings) -> str:
    """Return the revision of the database."""
    with psycopg.connect(settings.database_url) as connection:
        [(found,)] = connection.execute("SELECT version_num FROM alembic_version").fetchall()
    return str(found)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_deployment_and_its_rollback_beside_traffic(settings: Settings, tmp_path: Path) -> None:
    endpoints = Endpoints()
    previous_code = releases.unpack_previous(tmp_path / "previous")
    new_code = releases.copy_with_revision(tmp_path / "new")
    with (
        Release(previous_code, settings, tmp_path / "previous-logs", endpoints) as previous,
        Release(new_code, settings, tmp_path / "new-logs", endpoints) as new,
        # Its probes end before the servers.
        endpoints,
    ):
        previous.run("migrate")
        assert revision(settings) == previous.head
        key = previous.create_key()
        previous.deploy()
        with Traffic(endpoints, key=key, recording=RECORDING) as traffic:
            traffic.flows(FLOW)
            new.run("migrate")
            assert revision(settings) == new.head == releases.PLANTED
            traffic.flows(FLOW)
            new.deploy()
            previous.withdraw()
            traffic.flows(FLOW)
            previous.deploy()
            new.withdraw()
            traffic.flows(FLOW)
            traffic.finish()
        client = Client(f"http://127.0.0.1:{previous.port}", key=key)
        kept = {str(session.id) for session in client.sessions(state="completed")}
        silent = [each for each in kept if not client.detections(each)]
        client.close()
    traffic.assert_faultless()
    assert kept == traffic.states.keys()
    assert silent == []
    # The figures say that the test has looked.
    assert endpoints.n_probes > 100
    assert traffic.n_requests > 10 * FLOW
    assert len(kept) >= 4 * FLOW


@pytest.mark.slow
def test_the_previous_release_ends_what_this_one_has_split(
    rabbit_settings: Settings, tmp_path: Path
) -> None:
    """During a deployment the workers of both take spans of the same sessions."""
    memory = replace(rabbit_settings, amqp_url="memory://", one_claim_s=0.0)
    runtime = Runtime(memory, broker.setup(memory))
    # Silence is stored in another form than sounds.
    silence = np.zeros(30 * recordings.RATE_HZ, np.float32)
    content = recordings.encode(np.concatenate([silence, recordings.long(2.0)]))
    ours = split(runtime, content)
    wanted = run_to_the_end(runtime, ours)
    theirs = split(runtime, content)
    previous_code = releases.unpack_previous(tmp_path / "previous")
    with Cluster(rabbit_settings, tmp_path, code=previous_code) as previous:
        worker = previous.worker()
        eventually(
            lambda: session(runtime, theirs).finished_at is not None,
            timeout_s=60,
            what=f"the session's end; see {worker.log}",
        )
        assert worker.stop() == 0
    ended = session(runtime, theirs)
    with runtime.store.transaction() as tx:
        found = [
            [(each.start_s, each.noise_type) for each in detections_of(tx, session_id)]
            for session_id in (ours, theirs)
        ]
    runtime.close()
    assert (ended.state, ended.problem, ended.summary) == ("completed", None, wanted.summary)
    assert found[0] == found[1] != []
