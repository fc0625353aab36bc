"""``clamor queues``, ``queues show`` and ``queues replay``.

They query the broker and Postgres directly, with the settings of the installation, since operators
need them most when the API is in trouble.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime

import dramatiq
import httpx
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console
from rich.table import Table
from rich.text import Text
from sqlalchemy.exc import SQLAlchemyError

from actors.messaging import broker, dead_letters, kinds, queues
from actors.messaging.dead_letters import DeadLetter, Fate
from actors.messaging.messages import Nudge
from actors.messaging.queues import Depth
from db.queries.queue_queries import Backlog
from db.settings import Settings
from db.temporary_errors import is_temporary
from db.unreachable import DatabaseUnreachable
from services.cli.actions import targets
from services.http.errors import UserError
from services.processes.homes import Service

#: Timeout of a request to a standalone service for the state of its queues.
SERVICE_TIMEOUT_S = 10.0
IN_MEMORY = (
    "`clamor up` keeps its messages in memory, so dead letters cannot be shown or replayed from "
    "outside. They need no replay: their work items are in the database and are sent again. "
    "`clamor queues` and /metrics show how many messages are waiting"
)


@dataclass(frozen=True, kw_only=True)
class QueueLine:
    """The state of one queue."""

    queue: str
    ready: int
    #: Messages not yet acknowledged; None without RabbitMQ's management API.
    unacked: int | None
    #: Rows that workers hold or that wait for their next try; None if the database is unavailable.
    held: int | None
    dead: int
    #: None with the in-memory broker, where every worker thread serves every queue.
    consumers: int | None
    #: How long the oldest row has been waiting for a worker.
    oldest_s: float | None
    #: How long ago the oldest dead letter died.
    oldest_dead_s: float | None

    @classmethod
    def of(cls, depth: Depth, backlog: Backlog | None, oldest_dead: DeadLetter | None) -> QueueLine:
        """Combine the figures of the broker and the database."""
        died_at = (oldest_dead.died_at or oldest_dead.sent_at) if oldest_dead else None
        return cls(
            queue=depth.nudge.queue,
            ready=depth.ready,
            unacked=depth.unacked,
            held=backlog.held if backlog else None,
            dead=depth.dead,
            consumers=depth.consumers,
            oldest_s=backlog.oldest_s if backlog else None,
            oldest_dead_s=_seconds_since(died_at),
        )


def _seconds_since(moment: datetime | None) -> float | None:
    # RabbitMQ's clock may be ahead of this machine's.
    return None if moment is None else max((datetime.now(UTC) - moment).total_seconds(), 0.0)


def chosen(names: Sequence[str], *, prefix: str) -> list[type[Nudge]]:
    """Return the queues of these names, with or without the prefix; all if there are no names."""
    known = {kind.message.queue: kind.message for kind in kinds.KINDS}
    short = [name.removeprefix(f"{prefix}.").removesuffix(".XQ") for name in names]
    strange = [name for name, bare in zip(names, short, strict=True) if bare not in known]
    if strange:
        raise UserError(f"no such queue: {strange[0]!r}; the queues are {', '.join(known)}")
    return [known[name] for name in dict.fromkeys(short)] or list(known.values())


def overview(settings: Settings, service: Service | None, *, as_json: bool) -> int:
    """Show every queue; return 1 if there are dead letters.

    A standalone ``service`` keeps its messages in memory, so its figures come from its metrics.
    """
    lines = _of_broker(settings) if service is None else _of_service(settings, service)
    if as_json:
        print(json.dumps([asdict(line) for line in lines]))
    else:
        Console().print(table(lines))
    return 1 if any(line.dead for line in lines) else 0


def _of_broker(settings: Settings) -> list[QueueLine]:
    with _broker(settings) as rabbit:
        prefix = settings.queue_prefix
        depths = queues.depths(rabbit, prefix=prefix, api_url=settings.rabbitmq_api_url)
        backlogs = _backlogs(settings)
        return [
            QueueLine.of(
                depth,
                backlogs.get(depth.nudge.queue),
                _oldest_dead(rabbit, depth, prefix=prefix),
            )
            for depth in depths
        ]


def _of_service(settings: Settings, service: Service) -> list[QueueLine]:
    try:
        answer = httpx.get(f"{service.url}/metrics", timeout=SERVICE_TIMEOUT_S).raise_for_status()
    except httpx.HTTPError as error:
        raise UserError(f"the service at {service.url} does not answer: {error}") from error
    counts = {
        (family.name.removeprefix("clamor_queue_"), sample.labels["queue"]): int(sample.value)
        for family in text_string_to_metric_families(answer.text)
        if family.name.startswith("clamor_queue_")
        for sample in family.samples
    }
    backlogs = _backlogs(settings)
    print(
        f"The service at {service.url} keeps its messages in memory and loses them when it "
        "stops; their work items are in the database and are sent again.",
        file=sys.stderr,
    )
    lines = []
    for kind in kinds.KINDS:
        figures = ("ready", "unacked", "dead", "consumers")
        of_queue = {name: counts[name, kind.message.queue] for name in figures}
        depth = Depth(nudge=kind.message, **of_queue)
        line = QueueLine.of(depth, backlogs.get(depth.nudge.queue), None)
        lines.append(replace(line, consumers=None))
    return lines


def _backlogs(settings: Settings) -> dict[str, Backlog]:
    try:
        with targets.store(settings) as store, store.transaction() as tx:
            return kinds.backlogs(tx)
    except (DatabaseUnreachable, SQLAlchemyError) as error:
        if isinstance(error, SQLAlchemyError) and not is_temporary(error):
            raise
        print(
            "clamor: the database does not answer: 'held' and 'oldest' are unknown", file=sys.stderr
        )
        return {}


def _oldest_dead(rabbit: dramatiq.Broker, depth: Depth, *, prefix: str) -> DeadLetter | None:
    if not depth.dead:
        return None
    return next(iter(dead_letters.look(rabbit, depth.nudge, prefix=prefix, limit=1)), None)


def table(lines: Sequence[QueueLine]) -> Table:
    """Return the overview as a table."""
    shown = Table(
        caption=(
            "held: rows that a worker holds, or that wait for their next try\n"
            "oldest: how long the oldest row has been waiting for a worker"
        ),
        caption_justify="left",
    )
    shown.add_column("queue", no_wrap=True)
    with_unacked = any(line.unacked is not None for line in lines)
    columns = ["ready", *["unacked"][:with_unacked], "held", "oldest", "dead", "oldest dead"]
    for column in [*columns, "workers"]:
        shown.add_column(column, justify="right")
    for line in lines:
        unacked = [_number(line.unacked)][:with_unacked]
        shown.add_row(
            line.queue,
            str(line.ready),
            *unacked,
            _number(line.held),
            age(line.oldest_s),
            Text(str(line.dead), style="bold red" if line.dead else ""),
            age(line.oldest_dead_s),
            _number(line.consumers),
        )
    return shown


def _number(value: int | None) -> str:
    return "-" if value is None else str(value)


def age(seconds: float | None) -> str:
    """Return an age, rounded down, in the largest unit of which it has at least two."""
    if seconds is None:
        return "-"
    for unit, length_s in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length_s:
            return f"{seconds // length_s:.0f} {unit}"
    return f"{seconds // 1:.0f} s"


def show(settings: Settings, name: str, *, limit: int, as_json: bool) -> int:
    """Show the oldest dead letters of a queue."""
    [nudge] = chosen([name], prefix=settings.queue_prefix)
    with _broker(settings) as rabbit:
        letters = dead_letters.look(rabbit, nudge, prefix=settings.queue_prefix, limit=limit)
    if as_json:
        print(json.dumps([_to_json(letter) for letter in letters]))
        return 0
    shown = Table(title=f"{nudge.queue}: dead letters, oldest first")
    for column in ("died", "cause", "sent"):
        shown.add_column(column, no_wrap=True)
    # Folded rather than cut off: a truncated ID is useless.
    shown.add_column("message", overflow="fold")
    for letter in letters:
        died, sent = (age(_seconds_since(at)) for at in (letter.died_at, letter.sent_at))
        shown.add_row(died, letter.cause or "-", sent, _said(letter))
    Console().print(shown)
    return 0


def _said(letter: DeadLetter) -> Text:
    if letter.nudge is None:
        # The reason may quote the message, which may contain any characters.
        reason = "".join(c if c.isprintable() else "?" for c in letter.problem or "")
        return Text(f"cannot be read: {reason}", style="red")
    payload = letter.nudge.payload()
    return Text("\n".join(f"{name}={value}" for name, value in payload.items()) or "-")


def _to_json(letter: DeadLetter) -> dict[str, object]:
    return {
        "says": letter.nudge and letter.nudge.payload(),
        "problem": letter.problem,
        "sent_at": letter.sent_at and letter.sent_at.isoformat(),
        "died_at": letter.died_at and letter.died_at.isoformat(),
        "cause": letter.cause,
    }


def replay(
    settings: Settings, names: Sequence[str], *, limit: int | None, drop_unreadable: bool
) -> int:
    """Replay at most ``limit`` dead letters; return 1 if some cannot be read and stay dead."""
    wanted = chosen(names, prefix=settings.queue_prefix)
    fates: Counter[Fate] = Counter()
    with _broker(settings) as rabbit:
        for nudge in wanted:
            left = None if limit is None else limit - fates[Fate.REPLAYED]
            letters = dead_letters.replay(
                rabbit,
                nudge,
                prefix=settings.queue_prefix,
                limit=left,
                drop_unreadable=drop_unreadable,
            )
            here: Counter[Fate] = Counter()
            try:
                with closing(letters):
                    here.update(letters)
            finally:
                # Report what was done, even after an error.
                if here:
                    print(f"{nudge.queue}: {told(here)}")
            fates += here
    if not fates:
        print("there are no dead letters")
    return 1 if fates[Fate.UNREADABLE] else 0


def told(fates: Counter[Fate]) -> str:
    """Return the fates of the dead letters of a queue as text."""
    words = {
        Fate.REPLAYED: "replayed",
        Fate.UNREADABLE: "left in place, since this release cannot read them",
        Fate.DROPPED: "dropped, since they cannot be read",
    }
    return ", ".join(f"{fates[fate]} {words[fate]}" for fate in words if fates[fate])


@contextmanager
def _broker(settings: Settings) -> Iterator[dramatiq.Broker]:
    if settings.in_memory_broker:
        raise UserError(IN_MEMORY)
    rabbit = broker.setup(settings)
    try:
        yield rabbit
    except queues.BrokerUnavailable as error:
        raise UserError(str(error)) from error
    finally:
        rabbit.close()
