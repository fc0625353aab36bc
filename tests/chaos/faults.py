"""What goes wrong: each fault by name, and the plan of a run, drawn from its seed."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import pika
import psycopg

from actors import broker, messages
from tests.chaos.world import LEASE_S, World
from tests.support.cluster import Process, eventually

#: Faults of one lane come one after the other, those of two lanes at once. Between two of a lane
#: there are so many seconds, from and to: a worker that was killed shall get to work again.
LANES = {"processes": (4.0, 10.0), "servers": (1.0, 4.0)}
#: However busy the machine is, a process fails no sooner than some step was done since the last
#: one did, or so long has passed: else a run would only see processes start.
PROGRESS_S = 15.0
#: How long a fault waits for the moment to strike at.
STRIKE_S = 3.0
#: Finds work that somebody does just now, by the state of its session.
CLAIMED = {
    "queued": "SELECT 1 FROM audio_sessions WHERE state = 'queued'",
    "splitting": "SELECT 1 FROM audio_sessions WHERE state = 'splitting'",
    "detecting": "SELECT 1 FROM session_spans WHERE state = 'pending'",
    "aggregating": "SELECT 1 FROM audio_sessions WHERE state = 'aggregating'",
}
NOW = " AND attempt > 0 AND due_at > clock_timestamp() LIMIT 1"
#: How many sessions stray messages speak of.
STRAY_SESSIONS = 20


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One kind of fault."""

    name: str
    lane: str
    #: Does the damage, with a draw in [0, 1) for what is left open; says what it did.
    hurt: Callable[[World, float], str]
    #: Undoes it, if that takes anything.
    mend: Callable[[World], object] = lambda _world: None
    #: How long it lasts, from and to.
    lasts_s: tuple[float, float] = (0.0, 0.0)


def kill_worker(world: World, draw: float) -> str:
    """kill -9 of one worker with all its children."""
    while_ = _await_work(world, draw)
    number, chosen = _one_worker(world, draw)
    if chosen.popen.poll() is None:
        chosen.kill()
    return f"worker {number} {while_}"


def kill_all_workers(world: World, draw: float) -> str:
    """kill -9 of every worker at once."""
    while_ = _await_work(world, draw)
    for worker in world.supervisor.of("worker"):
        if worker.popen.poll() is None:
            worker.kill()
    return f"all workers {while_}"


def freeze_worker(world: World, draw: float) -> str:
    """One worker stands still for longer than its lease; then it goes on, as a zombie."""
    while_ = _await_work(world, draw)
    number, chosen = _one_worker(world, draw)
    if chosen.popen.poll() is None:
        chosen.freeze()
    return f"worker {number} {while_}"


def thaw_workers(world: World) -> None:
    """Every worker goes on."""
    for worker in world.supervisor.of("worker"):
        worker.thaw()


def _one_worker(world: World, draw: float) -> tuple[int, Process]:
    workers = world.supervisor.of("worker")
    # The last digits: the first ones have chosen the state.
    number = int(1_000 * draw) % len(workers)
    return number, workers[number]


def _await_work(world: World, draw: float) -> str:
    """Wait a moment for work of a kind that the draw chooses to be under way; says which."""
    state = list(CLAIMED)[int(draw * len(CLAIMED))]
    deadline = time.monotonic() + STRIKE_S
    while time.monotonic() < deadline:
        try:
            if world.rows(CLAIMED[state] + NOW):
                return f"while a session was {state}"
        except psycopg.OperationalError:
            break
        time.sleep(0.01)
    return f"while none was seen {state}"


def kill_api(world: World, _draw: float) -> str:
    """kill -9 of the API, with whatever is being uploaded."""
    for process in world.supervisor.of("serve"):
        if process.popen.poll() is None:
            process.kill()
    return "the API"


def kill_postgres(world: World, draw: float) -> str:
    """Postgres ends at once, as by ``pg_ctl stop -m immediate``; its next start recovers."""
    while_ = _await_work(world, draw)
    world.postgres.kill()
    return f"stopped at once {while_}"


def close_connections(world: World, _draw: float) -> str:
    """RabbitMQ closes every connection."""
    return world.rabbitmq.control("close_all_connections", "chaos").strip().lower()


def stop_rabbitmq(world: World, _draw: float) -> str:
    """RabbitMQ is away for a while."""
    world.rabbitmq.stop()
    return "stopped"


def raise_alarm(world: World, _draw: float) -> str:
    """RabbitMQ runs out of memory: whoever publishes is blocked."""
    world.rabbitmq.control("set_vm_memory_high_watermark", "0.000001")
    return "no memory left"


def end_alarm(world: World) -> None:
    """RabbitMQ has memory again."""
    world.rabbitmq.control("set_vm_memory_high_watermark", "0.4")


def shuffle(world: World, draw: float) -> str:
    """What lies in each queue is taken out, and comes back twice and in another order."""
    rng, moved = random.Random(draw), 0
    with _channel(world) as channel:
        for queue in world.queues():
            taken = list(_take_all(channel, queue))
            doubled = taken * 2
            rng.shuffle(doubled)
            for _tag, properties, body in doubled:
                channel.basic_publish("", queue, body, properties)
            for tag, _properties, _body in taken:
                channel.basic_ack(tag)
            moved += len(taken)
    return f"{moved} messages"


def stray_messages(world: World, draw: float) -> str:
    """Every message that there is, of any sessions, twice and in any order: most are too late,
    some too early.
    """
    rng = random.Random(draw)
    rows = eventually(
        lambda: _or_none(world, "SELECT id FROM audio_sessions ORDER BY random() LIMIT %s"),
        what="Postgres",
    )
    strays: list[messages.Nudge] = []
    for (session_id,) in rows:
        strays += [
            messages.ProcessAudioFile(session_id=session_id),
            messages.SplitRecording(session_id=session_id),
            messages.DetectSpan(session_id=session_id, span_index=rng.randrange(3)),
            messages.AggregateSession(session_id=session_id),
        ]
    strays *= 2
    rng.shuffle(strays)
    world.send(*strays)
    return f"{len(strays)} messages"


def purge(world: World, _draw: float) -> str:
    """Every message that waits is lost."""
    lost = 0
    with _channel(world) as channel:
        for queue in world.queues():
            lost += len([channel.basic_ack(tag) for tag, *_ in _take_all(channel, queue)])
    return f"{lost} messages"


def fill_store(world: World, _draw: float) -> str:
    """The blobs' disk is full."""
    world.store.fill()
    return "no room left"


FAULTS = (
    Fault(name="kill-worker", lane="processes", hurt=kill_worker),
    Fault(name="kill-all-workers", lane="processes", hurt=kill_all_workers),
    Fault(
        name="freeze-worker", lane="processes", hurt=freeze_worker, mend=thaw_workers,
        lasts_s=(1.2 * LEASE_S, 2.5 * LEASE_S),
    ),
    Fault(name="kill-api", lane="processes", hurt=kill_api),
    Fault(
        name="postgres-killed", lane="processes", hurt=kill_postgres, lasts_s=(0.0, 4.0),
        mend=lambda world: world.postgres.start(),
    ),
    Fault(name="connections-closed", lane="servers", hurt=close_connections),
    Fault(
        name="rabbitmq-restarted", lane="servers", hurt=stop_rabbitmq, lasts_s=(0.0, 4.0),
        mend=lambda world: world.rabbitmq.start(),
    ),
    # Up to more than a blocked publisher waits before it gives up.
    Fault(
        name="memory-alarm", lane="servers", hurt=raise_alarm, mend=end_alarm,
        lasts_s=(3.0, 1.3 * broker.BLOCKED_TIMEOUT_S),
    ),
    Fault(name="messages-shuffled", lane="servers", hurt=shuffle),
    Fault(name="messages-stray", lane="servers", hurt=stray_messages),
    Fault(name="queues-purged", lane="servers", hurt=purge),
    Fault(
        name="blobs-away", lane="servers", lasts_s=(2.0, 6.0),
        hurt=lambda world, draw: world.store.take_away(draw),
        mend=lambda world: world.store.bring_back(),
    ),
    Fault(
        name="blobs-full", lane="servers", lasts_s=(2.0, 6.0),
        hurt=fill_store,
        mend=lambda world: world.store.empty(),
    ),
)  # fmt: skip


DONE = "SELECT count(*) FROM processing_metrics WHERE result = 'done'"


def impossible(world: World) -> dict[str, str]:
    """The faults that cannot be injected here, and why."""
    return {} if world.store.cannot_fill is None else {"blobs-full": world.store.cannot_fill}


@dataclass
class Injected:
    """One fault of a run."""

    name: str
    #: From the beginning of the stream, in seconds.
    at_s: float
    what: str
    lasted_s: float = 0.0


@dataclass
class Injector:
    """Injects faults from its start to its stop, one thread a lane."""

    world: World
    seed: int
    #: Seconds since the beginning of the stream.
    clock: Callable[[], float]
    say: Callable[[str], None]
    injected: list[Injected] = field(default_factory=list)
    #: What went wrong with the faults themselves: then the run proves nothing.
    broken: list[BaseException] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._stopped = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(lane,), name=lane, daemon=True)
            for lane in LANES
        ]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Mend what is broken now, and end."""
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def _run(self, lane: str) -> None:
        rng, done = random.Random(f"{self.seed} {lane}"), 0
        try:
            for fault in self._deal(lane, rng):
                # Drawn in any case, so that the seed decides them all.
                gap_s, lasts_s = rng.uniform(*LANES[lane]), rng.uniform(*fault.lasts_s)
                draw = rng.random()
                if self._stopped.wait(gap_s):
                    return
                if lane == "processes":
                    done = self._await_progress(beyond=done)
                self._inject(fault, draw, lasts_s)
        except BaseException as error:
            self.broken.append(error)

    def _await_progress(self, *, beyond: int) -> int:
        """Wait until more steps than these were done; how many."""
        deadline, done = time.monotonic() + PROGRESS_S, beyond
        while done <= beyond and time.monotonic() < deadline and not self._stopped.wait(0.1):
            with suppress(psycopg.OperationalError):
                [(done,)] = self.world.rows(DONE)
        return done

    def _deal(self, lane: str, rng: random.Random) -> Iterator[Fault]:
        """The faults of a lane in random order, again and again: none is left out for long."""
        left_out = impossible(self.world)
        deck = [fault for fault in FAULTS if fault.lane == lane and fault.name not in left_out]
        while True:
            rng.shuffle(deck)
            yield from deck

    def _inject(self, fault: Fault, draw: float, lasts_s: float) -> None:
        at_s = self.clock()
        entry = Injected(fault.name, at_s, fault.hurt(self.world, draw))
        self.injected.append(entry)
        if lasts_s:
            self._stopped.wait(lasts_s)
        fault.mend(self.world)
        entry.lasted_s = self.clock() - at_s
        self.say(f"{at_s:6.1f} s  {fault.name}: {entry.what}; {entry.lasted_s:.1f} s")


@contextmanager
def _channel(world: World) -> Iterator[Any]:
    """A channel to the private broker."""
    connection = pika.BlockingConnection(pika.URLParameters(world.settings.amqp_url))
    try:
        yield connection.channel()
    finally:
        connection.close()


def _take_all(channel: Any, queue: str) -> Iterator[tuple[int, Any, bytes]]:
    """Each message that waits in a queue: its tag, its properties, its body."""
    while True:
        method, properties, body = channel.basic_get(queue)
        if method is None:
            return
        yield method.delivery_tag, properties, body


def _or_none(world: World, query: str) -> list[Any] | None:
    try:
        return world.rows(query, [STRAY_SESSIONS])
    except psycopg.OperationalError:
        return None
