"""The environment of a run: private servers, an API, workers, and a supervisor."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import psycopg

from actors.messaging import broker, kinds, messages
from db import migrate
from db.queries import job_run_queries, session_queries
from db.settings import Settings
from db.store import Store
from services.client import ApiError, Client
from services.processes.server import free_port
from tests.chaos import clock, stores
from tests.support import accounts, servers
from tests.support.cluster import START_S, Cluster, Process, eventually

WORKERS = 2
#: The settings of a quick run. Leases are short, so that many expire; renewals are three times as
#: frequent, which a busy machine still manages. Attempts are far more than by default: a run kills
#: a worker every few seconds and checks for lost work, not for work that was given up as poisonous
#: after five kills. The deadline is longer than any step of a run on a busy machine.
QUICK = {"lease_s": 3.0, "recovery_s": 0.5, "deadline_s": 15.0, "max_attempts": 50}
#: The deadline of a run with the product's own leases and attempts. What an attempt that lost its
#: claim has stored is removed after the longest deadline, which by default is 25 minutes.
DEADLINE_S = 60.0
#: Of the recordings of a run, the longest is cut into spans, the others are processed in one claim.
ONE_CLAIM_S = 60.0
#: Longer than any post of a run waits for its row.
ORPHAN_S = 20.0


class Supervisor:
    """Restarts processes as soon as they die, as Kubernetes does."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._running: list[tuple[tuple[str, ...], Process]] = []
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)
        #: Number of restarts of each command.
        self.restarts: Counter[str] = Counter()

    def add(self, *arguments: str) -> Process:
        """Start a command, and keep it running."""
        with self._lock:
            process = self._cluster.start(*arguments)
            self._running.append((arguments, process))
        return process

    def of(self, command: str) -> list[Process]:
        """Return the current processes of a command."""
        with self._lock:
            return [process for arguments, process in self._running if arguments[0] == command]

    def start(self) -> None:
        """Start supervising the added processes."""
        self._thread.start()

    def stop(self) -> None:
        """Stop restarting processes."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(0.05):
            with self._lock:
                for slot, (arguments, process) in enumerate(self._running):
                    if process.popen.poll() is not None:
                        self._running[slot] = (arguments, self._cluster.start(*arguments))
                        self.restarts[arguments[0]] += 1


@dataclass(frozen=True, kw_only=True)
class World:
    """Everything that a run may look at and break."""

    #: Logs and other evidence.
    folder: Path
    settings: Settings
    postgres: servers.PrivatePostgres
    rabbitmq: servers.PrivateRabbitmq
    store: stores.Store
    supervisor: Supervisor
    client: Client

    def rows(self, query: str, parameters: Sequence[Any] = ()) -> list[Any]:
        """Query Postgres; raise :class:`psycopg.OperationalError` while it is unavailable."""
        with psycopg.connect(self.settings.database_url, autocommit=True) as connection:
            return connection.execute(query.encode(), parameters).fetchall()

    def queues(self) -> list[str]:
        """Return the queues of work messages."""
        prefix = self.settings.queue_prefix
        return sorted(messages.queue_name(kind.message, prefix=prefix) for kind in kinds.KINDS)

    def table(self, table: str, columns: str) -> list[Any]:
        """Return every row of a table."""
        return self.rows(f"SELECT {columns} FROM {table}")  # noqa: S608  (trusted names)

    def ask(self, nudge: messages.Nudge, **options: Any) -> None:
        """Request a run of a periodic job, as an operator does."""
        store = Store(self.settings.database_url, pool_size=1)
        with store.transaction() as tx:
            job_run_queries.add_run(
                tx, nudge.actor, session_queries.clock(tx), source="person", options=options
            )
        store.close()
        self.send(nudge)

    def send(self, *nudges: messages.Nudge) -> None:
        """Send messages, as Clamor does."""
        sending = broker.setup(self.settings)
        try:
            for nudge in nudges:
                messages.send(nudge, broker=sending, prefix=self.settings.queue_prefix)
        finally:
            sending.close()


@contextmanager
def world(folder: Path, *, on_s3: bool, is_quick: bool) -> Iterator[World]:
    """Start all servers and processes, and stop them at the end.

    With the product's own leases, deadlines and attempts, unless the run is to be quick.
    """
    with ExitStack() as stack:
        postgres = stack.enter_context(servers.private_postgres())
        rabbitmq = stack.enter_context(servers.private_rabbitmq())
        store = stack.enter_context(stores.bucket() if on_s3 else stores.folder(folder))
        migrate.upgrade(postgres.url)
        accounts.add_first(postgres.url)
        clock.install(postgres.url)
        settings = Settings(
            database_url=clock.seen(postgres.url),
            amqp_url=rabbitmq.url,
            blob_url=store.url,
            one_claim_s=ONE_CLAIM_S,
            orphan_s=ORPHAN_S,
            deadline_s=DEADLINE_S,
            key_pepper=accounts.PEPPER,
            secret_keys=accounts.SECRET_KEYS,
        )
        if is_quick:
            settings = replace(settings, **QUICK)  # type: ignore[arg-type]
        cluster = stack.enter_context(Cluster(settings, folder))
        cluster.env |= {
            "CLAMOR_ORPHAN_S": str(settings.orphan_s),
            # Marked orphans are removed in the same run.
            "CLAMOR_KEEP_ORPHANS_DAYS": "1e-9",
        }
        supervisor = Supervisor(cluster)
        stack.callback(supervisor.stop)
        port = free_port()
        client = Client(f"http://127.0.0.1:{port}", key=accounts.KEY)
        stack.callback(client.close)
        supervisor.add("serve", "--port", str(port))
        for _ in range(WORKERS):
            supervisor.add("worker")
        made = World(
            folder=folder,
            settings=settings,
            postgres=postgres,
            rabbitmq=rabbitmq,
            store=store,
            supervisor=supervisor,
            client=client,
        )
        await_ready(made)
        supervisor.start()
        yield made


def _works(worker: Process) -> bool:
    return "Worker process is ready" in worker.log.read_text()


def await_ready(world: World) -> None:
    """Wait until the API answers and every worker is ready."""

    def api() -> bool:
        try:
            return world.client.ready()
        except ApiError:
            return False

    eventually(api, timeout_s=START_S, what="the API")
    for worker in world.supervisor.of("worker"):
        eventually(
            partial(_works, worker),
            timeout_s=START_S,
            what=f"a worker; see {worker.log}",
        )
