"""The faults: their names, what they do, and how they are undone."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pika
import psycopg

from actors.messaging import deadlines, messages
from tests.chaos import clock
from tests.chaos.world import World
from tests.support.cluster import Process, eventually

#: How long a fault waits for a suitable moment.
STRIKE_S = 3.0
#: Queries for work in progress, by the state of its session.
CLAIMED = {
    "queued": "SELECT 1 FROM unfinished_sessions WHERE state = 'queued'",
    "splitting": "SELECT 1 FROM unfinished_sessions WHERE state = 'splitting'",
    "detecting": "SELECT 1 FROM session_spans WHERE state = 'pending'",
    "aggregating": "SELECT 1 FROM unfinished_sessions WHERE state = 'aggregating'",
}
NOW = " AND attempt > 0 AND due_at > clock_timestamp() LIMIT 1"
#: The most by which the clock of the database differs.
CLOCK_S = 120
#: Number of sessions that stray messages name.
STRAY_SESSIONS = 20


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One kind of fault."""

    name: str
    #: The lane of the fault; see :data:`tests.chaos.injector.LANES`.
    lane: str
    #: Causes the fault, with a draw in [0, 1) for its random choices; returns a description.
    hurt: Callable[[World, float], str]
    #: Undoes the fault, if necessary.
    mend: Callable[[World], object] = lambda _world: None
    #: Minimum and maximum duration in seconds; ``in_leases``: in leases of the run.
    lasts: tuple[float, float] = (0.0, 0.0)
    in_leases: bool = False


def kill_worker(world: World, draw: float) -> str:
    """Kill one worker and all its children with SIGKILL."""
    while_ = _await_work(world, draw)
    number, chosen = _one_worker(world, draw)
    if chosen.popen.poll() is None:
        chosen.kill()
    return f"worker {number} {while_}"


def kill_all_workers(world: World, draw: float) -> str:
    """Kill all workers at once with SIGKILL."""
    while_ = _await_work(world, draw)
    for worker in world.supervisor.of("worker"):
        if worker.popen.poll() is None:
            worker.kill()
    return f"all workers {while_}"


def freeze_worker(world: World, draw: float) -> str:
    """Freeze one worker for longer than its lease; afterwards it continues, as a zombie."""
    while_ = _await_work(world, draw)
    number, chosen = _one_worker(world, draw)
    if chosen.popen.poll() is None:
        chosen.freeze()
    return f"worker {number} {while_}"


def thaw_workers(world: World) -> None:
    """Let every worker continue."""
    for worker in world.supervisor.of("worker"):
        worker.thaw()


def _one_worker(world: World, draw: float) -> tuple[int, Process]:
    workers = world.supervisor.of("worker")
    # Use the last digits, since the first ones choose the state.
    number = int(1_000 * draw) % len(workers)
    return number, workers[number]


def _await_work(world: World, draw: float) -> str:
    """Wait briefly until work of a kind that the draw chooses is in progress; return which."""
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
    """Kill the API with SIGKILL, including running uploads."""
    for process in world.supervisor.of("serve"):
        if process.popen.poll() is None:
            process.kill()
    return "the API"


def kill_postgres(world: World, draw: float) -> str:
    """Stop Postgres as ``pg_ctl stop -m immediate`` does; it recovers at its next start."""
    while_ = _await_work(world, draw)
    world.postgres.kill()
    return f"stopped at once {while_}"


def freeze_postgres(world: World, draw: float) -> str:
    """Stop the execution of Postgres: it accepts connections and does not answer."""
    while_ = _await_work(world, draw)
    world.postgres.freeze()
    return f"stands still {while_}"


def set_clock(world: World, draw: float) -> str:
    """Set the clock of the database, by two minutes at most."""
    seconds = round((2 * draw - 1) * CLOCK_S)
    eventually(lambda: _is_set(world, seconds), what="Postgres")
    return f"{seconds:+d} s against the machine's"


def _is_set(world: World, seconds: int) -> bool:
    try:
        clock.set_ahead(world.settings.database_url, seconds)
    except psycopg.OperationalError:
        return False
    return True


def freeze_rabbitmq(world: World, _draw: float) -> str:
    """Stop the execution of RabbitMQ: it accepts connections and does not answer."""
    world.rabbitmq.freeze()
    return "stands still"


def close_connections(world: World, _draw: float) -> str:
    """Make RabbitMQ close every connection."""
    return world.rabbitmq.control("close_all_connections", "chaos").strip().lower()


def stop_rabbitmq(world: World, _draw: float) -> str:
    """Stop RabbitMQ for a while."""
    world.rabbitmq.stop()
    return "stopped"


def raise_alarm(world: World, _draw: float) -> str:
    """Raise RabbitMQ's memory alarm, which blocks publishers."""
    world.rabbitmq.control("set_vm_memory_high_watermark", "0.000001")
    return "no memory left"


def end_alarm(world: World) -> None:
    """End RabbitMQ's memory alarm."""
    world.rabbitmq.control("set_vm_memory_high_watermark", "0.4")


def shuffle(world: World, draw: float) -> str:
    """Take all messages out of each queue, and put them back twice in random order."""
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
    """Send every kind of message for random sessions, twice and in random order: most are too late,
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
    """Lose every waiting message."""
    lost = 0
    with _channel(world) as channel:
        for queue in world.queues():
            lost += len([channel.basic_ack(tag) for tag, *_ in _take_all(channel, queue)])
    return f"{lost} messages"


def fill_store(world: World, _draw: float) -> str:
    """Fill the disk of the blob store."""
    world.store.fill()
    return "no room left"


FAULTS = (
    Fault(name="kill-worker", lane="processes", hurt=kill_worker),
    Fault(name="kill-all-workers", lane="processes", hurt=kill_all_workers),
    Fault(
        name="freeze-worker",
        lane="processes",
        hurt=freeze_worker,
        mend=thaw_workers,
        lasts=(1.1, 1.8),
        in_leases=True,
    ),
    Fault(name="kill-api", lane="processes", hurt=kill_api),
    Fault(
        name="postgres-killed",
        lane="processes",
        hurt=kill_postgres,
        lasts=(0.0, 4.0),
        mend=lambda world: world.postgres.start(),
    ),
    # Longer than the deadlines of its callers.
    Fault(
        name="postgres-frozen",
        lane="processes",
        hurt=freeze_postgres,
        lasts=(4.0, 12.0),
        mend=lambda world: world.postgres.thaw(),
    ),
    Fault(name="clock-set", lane="processes", hurt=set_clock),
    Fault(name="connections-closed", lane="servers", hurt=close_connections),
    Fault(
        name="rabbitmq-restarted",
        lane="servers",
        hurt=stop_rabbitmq,
        lasts=(0.0, 4.0),
        mend=lambda world: world.rabbitmq.start(),
    ),
    Fault(
        name="rabbitmq-frozen",
        lane="servers",
        hurt=freeze_rabbitmq,
        lasts=(3.0, 2.6 * deadlines.ANSWER_S),
        mend=lambda world: world.rabbitmq.thaw(),
    ),
    # The maximum exceeds the time that a blocked publisher waits before it gives up.
    Fault(
        name="memory-alarm",
        lane="servers",
        hurt=raise_alarm,
        mend=end_alarm,
        lasts=(3.0, 2.6 * deadlines.ANSWER_S),
    ),
    Fault(name="messages-shuffled", lane="servers", hurt=shuffle),
    Fault(name="messages-stray", lane="servers", hurt=stray_messages),
    Fault(name="queues-purged", lane="servers", hurt=purge),
    Fault(
        name="blobs-away",
        lane="servers",
        lasts=(2.0, 6.0),
        hurt=lambda world, draw: world.store.take_away(draw),
        mend=lambda world: world.store.bring_back(),
    ),
    Fault(
        name="blobs-full",
        lane="servers",
        lasts=(2.0, 6.0),
        hurt=fill_store,
        mend=lambda world: world.store.empty(),
    ),
)


def impossible(world: World) -> dict[str, str]:
    """Return the faults that cannot be injected here, with the reasons."""
    return {} if world.store.cannot_fill is None else {"blobs-full": world.store.cannot_fill}


@contextmanager
def _channel(world: World) -> Iterator[Any]:
    """Open a channel to the private broker."""
    connection = pika.BlockingConnection(pika.URLParameters(world.settings.amqp_url))
    try:
        yield connection.channel()
    finally:
        connection.close()


def _take_all(channel: Any, queue: str) -> Iterator[tuple[int, Any, bytes]]:
    """Yield the tag, properties and body of each waiting message of a queue."""
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
