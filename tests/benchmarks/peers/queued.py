"""Clamor and the Celery programs, each with its own database, queues and folder."""

from __future__ import annotations

import time
import uuid
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pika
import psutil
import psycopg
from celery import Celery
from sqlalchemy import create_engine

from actors.messaging import broker, messages
from actors.messaging.broker import Publisher
from db import migrate
from db.blobs.blob_store import Blobs
from db.blobs.keys import recording_key
from db.queries import session_queries
from db.settings import Settings
from db.store import Store
from tests.benchmarks.fairness import remove_queues
from tests.benchmarks.peers import application, rows
from tests.benchmarks.peers.program import Events, Figures, Program
from tests.support import accounts
from tests.support.cluster import Cluster, Process

#: Time limit of each wait.
PATIENCE_S = 3_600.0
#: Seconds between two looks at the database, and for a single recording.
LOOK_S, SINGLE_LOOK_S = 0.02, 0.001


#: Callers whose recordings wait, and the events of each recording of the history.
LANES, EVENTS = 50, 5
QUEUE_UP = """
    WITH added AS (
        INSERT INTO audio_sessions (id, file_name, recording_key, size_bytes, state)
        SELECT gen_random_uuid(), 'clip.flac', %(key)s, %(size)s, 'queued'
        FROM generate_series(1, %(n)s) RETURNING id, state, created_at)
    INSERT INTO unfinished_sessions (session_id, state, lane, created_at)
    SELECT id, state, md5((row_number() OVER () %% %(lanes)s)::text)::uuid, created_at FROM added
"""
HISTORY = """
    WITH added AS (
        INSERT INTO audio_sessions (id, user_id, file_name, recording_key, size_bytes, state,
            created_at, started_at, n_samples)
        SELECT gen_random_uuid(), %(user)s, 'clip.flac', 'none', 1, 'completed', at, at, 1
        FROM generate_series(1, %(n)s) AS i, LATERAL (SELECT now() - interval '1 day' AS at) AS t
        RETURNING id, user_id, created_at, state), ended AS (
        INSERT INTO session_results (session_id, user_id, created_at, outcome, finished_at,
            duration_s)
        SELECT id, user_id, created_at, state, created_at, 5 FROM added)
    INSERT INTO noise_detections (session_id, event_index, start_s, end_s, noise_type, confidence,
        candidates)
    SELECT id, i, i, i + 1, 'siren', 0.9, '[]' FROM added, generate_series(0, %(events)s - 1) AS i
"""
PEERS_QUEUE_UP = """
    INSERT INTO recordings (id, path)
    SELECT gen_random_uuid(), %(path)s FROM generate_series(1, %(n)s) RETURNING id
"""
PEERS_HISTORY = """
    WITH added AS (
        INSERT INTO recordings (id, path, finished_at)
        SELECT gen_random_uuid(), 'none', now() - interval '1 day'
        FROM generate_series(1, %(n)s) RETURNING id)
    INSERT INTO events (recording_id, number, start_s, end_s, noise_type, confidence, further)
    SELECT id, i, i, i + 1, 'siren', 0.9, '{}' FROM added, generate_series(0, %(events)s - 1) AS i
"""


@dataclass(frozen=True)
class Place:
    """Where a program runs: its database, the broker, and a folder."""

    database_url: str
    amqp_url: str
    folder: Path


class Queued(Program):
    """A program whose workers take recordings from a queue and store answers in a database."""

    #: Counts the answers that were committed after a time; marked, so that `costs` ignores it.
    finished: str
    #: The events of a recording, in the columns `COMPARED`.
    found: str

    def __init__(self, name: str, place: Place, stack: ExitStack) -> None:
        super().__init__(name)
        self.place = place
        self.workers: Process | None = None
        self.connection = stack.enter_context(psycopg.connect(place.database_url, autocommit=True))

    @abstractmethod
    def post(self, file: Path) -> uuid.UUID:
        """Store a recording, and send its message; return its ID."""

    @abstractmethod
    def launch(self, n_workers: int) -> Process:
        """Start workers without waiting for them."""

    @abstractmethod
    def queue_up(self, file: Path, n: int, *, n_started: int) -> None:
        """Post a recording many times at once. Workers will answer at least ``n_started`` soon."""

    @abstractmethod
    def add_history(self, file: Path, n: int) -> None:
        """Add recordings that were answered yesterday, each with some events."""

    @contextmanager
    def running(self, n_workers: int, *, warm: Path) -> Iterator[None]:
        """As `Program.running`; several recordings for each worker, since who takes them varies."""
        self.workers = self.launch(n_workers)
        try:
            self._await(2 * n_workers, of=[warm] * 2 * n_workers)
            self.run([warm] * 4 * n_workers)
            yield
        finally:
            with suppress(ProcessLookupError):
                self.workers.kill()
            self.workers = None

    def run(self, files: Sequence[Path]) -> Figures:
        """As `Program.run`."""
        posted: dict[uuid.UUID, Path] = {}
        took_s, cpu_s = self.finish(
            len(files), post=lambda: posted.update((self.post(file), file) for file in files)
        )
        events = {file: self.events(key) for key, file in posted.items()}
        return Figures(took_s, cpu_s, events)

    def finish(self, n: int, *, post: Callable[[], None]) -> tuple[float, float]:
        """Post recordings while the workers are frozen; thaw them, and wait for ``n`` answers.

        Returns the seconds from then on, and the workers' CPU seconds.
        """
        assert self.workers is not None
        self.workers.freeze()
        since = self.clock()
        post()
        cpu_s, began = self.cpu_s(), time.perf_counter()
        self.workers.thaw()
        self.until_finished(n, since)
        return time.perf_counter() - began, self.cpu_s() - cpu_s

    def single_s(self, file: Path) -> float:
        """As `Program.single_s`."""
        return self._await(1, of=[file], look_s=SINGLE_LOOK_S)

    def cold_s(self, file: Path) -> float:
        """As `Program.cold_s`."""
        since = self.clock()
        self.post(file)
        began = time.perf_counter()
        workers = self.launch(1)
        try:
            self.until_finished(1, since)
            return time.perf_counter() - began
        finally:
            workers.kill()

    def processes(self) -> list[psutil.Process]:
        """As `Program.processes`."""
        assert self.workers is not None
        first = psutil.Process(self.workers.popen.pid)
        return [first, *first.children(recursive=True)]

    def clock(self) -> Any:
        """Return the time of the database."""
        return self._one("SELECT clock_timestamp()")

    def events(self, key: uuid.UUID) -> Events:
        """Return the events of a recording."""
        return sorted(self.connection.execute(self.found, [key]).fetchall())

    def until_finished(self, n: int, since: object, *, look_s: float = LOOK_S) -> None:
        """Wait until some recordings have been answered."""
        deadline = time.monotonic() + PATIENCE_S
        while self._one(self.finished, since) < n:
            assert time.monotonic() < deadline, f"{self.name} does not end"
            if self.workers is not None and self.workers.popen.poll() is not None:
                raise RuntimeError(f"{self.name} ended: {self.workers.log.read_text()[-2_000:]}")
            time.sleep(look_s)

    def _await(self, n: int, *, of: Sequence[Path], look_s: float = LOOK_S) -> float:
        since, began = self.clock(), time.perf_counter()
        for file in of:
            self.post(file)
        self.until_finished(n, since, look_s=look_s)
        return time.perf_counter() - began

    def _one(self, query: str, *parameters: object) -> Any:
        row = self.connection.execute(query, parameters).fetchone()
        assert row is not None
        return row[0]


class Clamor(Queued):
    """Clamor, without the backbone."""

    finished = "SELECT /* footprint */ count(*) FROM session_results WHERE finished_at > %s"
    found = """
        SELECT start_s, end_s, noise_type, confidence, laeq_db, lafmax_db
        FROM noise_detections WHERE session_id = %s
    """

    def __init__(self, place: Place, stack: ExitStack) -> None:
        migrate.upgrade(place.database_url)
        accounts.add_first(place.database_url)
        super().__init__("Clamor", place, stack)
        self.settings = Settings(
            database_url=place.database_url,
            amqp_url=place.amqp_url,
            blob_url=(place.folder / "blobs").as_uri(),
            queue_prefix=f"peers-{uuid.uuid4().hex[:12]}",
            backbone_url="off",
        )
        stack.callback(remove_queues, self.settings)
        self.store = Store(place.database_url, pool_size=1)
        stack.callback(self.store.close)
        self.blobs = Blobs(self.settings.blob_url)
        setup = broker.setup(self.settings)
        self.publisher = Publisher(setup, prefix=self.settings.queue_prefix)
        stack.callback(self.publisher.close)
        self._cluster = stack.enter_context(Cluster(self.settings, place.folder))

    def post(self, file: Path) -> uuid.UUID:
        """As `Queued.post`: what the API does once it has read the request."""
        session_id = uuid.uuid4()
        content, key = file.read_bytes(), recording_key(session_id)
        self.blobs.put(key, content)
        with self.store.transaction() as tx:
            session_queries.add_session(
                tx,
                id=session_id,
                user_id=accounts.TEAM,
                file_name=file.name,
                recording_key=key,
                size_bytes=len(content),
            )
        self.publisher.send(messages.ProcessAudioFile(session_id=session_id))
        return session_id

    def launch(self, n_workers: int) -> Process:
        """As `Queued.launch`."""
        return self._cluster.start("worker", "--processes", str(n_workers))

    def queue_up(self, file: Path, n: int, *, n_started: int) -> None:
        """As `Queued.queue_up`: each message is a nudge, so a part of them is enough."""
        key, size = recording_key(uuid.uuid4()), file.stat().st_size
        self.blobs.put(key, file.read_bytes())
        self.connection.execute(QUEUE_UP, {"n": n, "key": key, "size": size, "lanes": LANES})
        self.connection.execute("ANALYZE audio_sessions, unfinished_sessions")
        for _ in range(n_started):
            self.publisher.send(messages.ProcessAudioFile(session_id=uuid.uuid4()))

    def add_history(self, file: Path, n: int) -> None:
        """As `Queued.add_history`."""
        self.connection.execute(HISTORY, {"n": n, "user": accounts.TEAM, "events": EVENTS})
        self.connection.execute("ANALYZE audio_sessions, session_results, noise_detections")


class OnCelery(Queued):
    """A Celery program, with a process for each worker."""

    finished = "SELECT /* footprint */ count(*) FROM recordings WHERE finished_at > %s"
    found = """
        SELECT start_s, end_s, noise_type, confidence, laeq_db, lafmax_db
        FROM events WHERE recording_id = %s
    """

    def __init__(
        self, name: str, place: Place, stack: ExitStack, *, module: str, task: str, chunk_s: float
    ) -> None:
        url = place.database_url.replace("postgresql://", "postgresql+psycopg://", 1)
        engine = create_engine(url)
        rows.Base.metadata.create_all(engine)
        engine.dispose()
        super().__init__(name, place, stack)
        self.queue = f"peers-{uuid.uuid4().hex[:12]}"
        stack.callback(remove_queue, place.amqp_url, self.queue)
        self._module, self._task = module, task
        self._env = {
            rows.VARIABLE: place.database_url,
            application.BROKER_VARIABLE: place.amqp_url,
            application.QUEUE_VARIABLE: self.queue,
            application.CHUNK_VARIABLE: f"{chunk_s}",
        }
        self._celery = Celery(broker=place.amqp_url)
        stack.callback(self._celery.close)
        self._folder = place.folder / "posted"
        self._folder.mkdir()

    def post(self, file: Path) -> uuid.UUID:
        """As `Queued.post`."""
        key = uuid.uuid4()
        posted = self._folder / f"{key}{file.suffix}"
        posted.write_bytes(file.read_bytes())
        self.connection.execute(
            "INSERT INTO recordings (id, path) VALUES (%s, %s)", [key, f"{posted}"]
        )
        self.send(key)
        return key

    def send(self, key: uuid.UUID, *, producer: Any = None) -> None:
        """Send the message of a recording."""
        self._celery.send_task(
            self._task, [str(key)], queue=self.queue, ignore_result=True, producer=producer
        )

    def queue_up(self, file: Path, n: int, *, n_started: int) -> None:
        """As `Queued.queue_up`."""
        posted = self._folder / file.name
        posted.write_bytes(file.read_bytes())
        keys = self.connection.execute(PEERS_QUEUE_UP, {"n": n, "path": f"{posted}"}).fetchall()
        with self._celery.producer_pool.acquire() as producer:
            for (key,) in keys:
                self.send(key, producer=producer)

    def add_history(self, file: Path, n: int) -> None:
        """As `Queued.add_history`."""
        self.connection.execute(PEERS_HISTORY, {"n": n, "events": EVENTS})
        self.connection.execute("ANALYZE recordings, events")

    def launch(self, n_workers: int) -> Process:
        """As `Queued.launch`."""
        log = self.place.folder / "celery.log"
        command = ["-A", self._module, "worker", "--loglevel", "WARNING"]
        command += ["--concurrency", str(n_workers), "--queues", self.queue]
        # Two masters on a machine need different names.
        command += ["--hostname", f"{self.queue}@%h"]
        # Messages between workers, which are not needed here.
        command += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
        return Process(command, module="celery", env=self._env, log=log)


def remove_queue(amqp_url: str, name: str) -> None:
    """Delete a queue."""
    connection = pika.BlockingConnection(pika.URLParameters(amqp_url))
    connection.channel().queue_delete(name)
    connection.close()
