"""What lies in the queues: ready, in workers' hands, dead.

Two witnesses are asked. The broker knows its messages; Postgres knows the rows that they name,
which are the truth. Light: the HTTP process imports this.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import dramatiq
import httpx
import pika
import pika.exceptions
import structlog
from dramatiq.brokers.stub import StubBroker
from dramatiq.common import xq_name
from dramatiq.errors import BrokerConnectionError
from pika.adapters.utils.connection_workflow import AMQPConnectorException

from actors.messaging import messages
from actors.messaging.broker import QuorumBroker
from actors.messaging.messages import Nudge

log = structlog.get_logger(__name__)

#: How long a broker may take to be connected to, and an answer of its management API to come.
PATIENCE_S = 2
#: A broker that falls silent in the middle of a look is given up after up to 16 s: pika looks
#: every five seconds and this. Shorter gives up sooner; longer forgives a machine that stalls.
LOOK_HEARTBEAT_S = 3

#: The rows that the messages of a queue name, as `db.queries.queue_queries` calls their kind. A
#: queue whose messages name no rows is not here.
ROWS: Mapping[type[Nudge], str] = {
    messages.ProcessAudioFile: "queued",
    messages.SplitRecording: "splitting",
    messages.DetectSpan: "span",
    messages.AggregateSession: "aggregating",
    messages.AnalyzeSession: "analysis",
    messages.BatchProcessFiles: "batch",
    messages.DeliverWebhook: "webhook",
    messages.TrainNoiseClassifier: "training",
    messages.ValidateModel: "validation",
    messages.ExportSessionData: "export",
    messages.GenerateDailyReport: "report",
}


class BrokerUnavailable(Exception):
    """The broker cannot be asked; the message says why, and holds no password."""


@dataclass(frozen=True, kw_only=True)
class Depth:
    """One queue, as its broker sees it."""

    nudge: type[Nudge]
    #: Messages that wait for a worker.
    ready: int
    #: Messages that were given up, and are kept to be looked at.
    dead: int
    consumers: int
    #: Messages that workers were given and have not answered; None where nobody can tell.
    unacked: int | None


def check(broker: dramatiq.Broker) -> None:
    """Return if the broker answers; raises :class:`BrokerUnavailable`."""
    if not isinstance(broker, StubBroker):
        with connected(broker):
            pass


def depths(broker: dramatiq.Broker, *, prefix: str, api_url: str = "") -> list[Depth]:
    """Every queue of the wire contract, in its order.

    AMQP does not tell what is unacked: RabbitMQ's management API does, where ``api_url`` names
    one that answers. A queue that was never used is not on the broker yet, and counts as empty.

    Raises
    ------
    BrokerUnavailable
    """
    if isinstance(broker, StubBroker):
        return [_in_memory(broker, nudge, prefix) for nudge in messages.ALL]
    with connected(broker) as connection:
        virtual_host = connection_parameters(broker).virtual_host
        unacked = _unacked(api_url, virtual_host) if api_url else {}
        found = []
        for nudge in messages.ALL:
            queue = messages.queue_name(nudge, prefix=prefix)
            ready, consumers = count(connection, queue)
            dead, _ = count(connection, xq_name(queue))
            found.append(
                Depth(
                    nudge=nudge,
                    ready=ready,
                    dead=dead,
                    consumers=consumers,
                    unacked=unacked.get(queue),
                )
            )
        return found


def _in_memory(broker: StubBroker, nudge: type[Nudge], prefix: str) -> Depth:
    """The broker of the standalone service: its queues are this process's, and known exactly."""
    name = messages.queue_name(nudge, prefix=prefix)
    queue = broker.queues[name]
    ready = queue.qsize()
    return Depth(
        nudge=nudge,
        ready=ready,
        dead=len(broker.dead_letters_by_queue[name]),
        # Its workers are threads that belong to no queue.
        consumers=0,
        unacked=max(queue.unfinished_tasks - ready, 0),
    )


def count(connection: pika.BlockingConnection, queue: str) -> tuple[int, int]:
    """Messages that are ready, and consumers; declares nothing."""
    # A queue that is not there costs the channel.
    channel = connection.channel()
    try:
        declared = channel.queue_declare(queue, passive=True).method
    except pika.exceptions.ChannelClosedByBroker as error:
        if error.reply_code != NOT_FOUND:
            raise
        return 0, 0
    channel.close()
    return declared.message_count, declared.consumer_count


NOT_FOUND = 404


def _unacked(api_url: str, virtual_host: str) -> dict[str, int]:
    """Unacked messages by queue, as the management API tells; nothing if it does not answer."""
    try:
        given = httpx.URL(api_url)
        answer = httpx.get(
            # Without the password, so that no log and no error can repeat it.
            given.copy_with(
                userinfo=b"",
                raw_path=f"{given.path.rstrip('/')}/api/queues/{quote(virtual_host, safe='')}"
                "?columns=name,messages_unacknowledged".encode(),
            ),
            auth=(given.username, given.password),
            timeout=PATIENCE_S,
        )
        answer.raise_for_status()
        # A queue that was made this moment has no statistics yet.
        return {
            queue["name"]: queue["messages_unacknowledged"]
            for queue in answer.json()
            if "messages_unacknowledged" in queue
        }
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, LookupError, TypeError) as error:
        log.warning("management_api_away", error=type(error).__name__)
        return {}


# --- the connection ----------------------------------------------------------------------------


def connection_parameters(broker: dramatiq.Broker) -> pika.ConnectionParameters:
    """How to reach the broker for a look: like the workers, but with little patience."""
    assert isinstance(broker, QuorumBroker)
    parameters: Any = copy.copy(broker.parameters)
    parameters.socket_timeout = parameters.stack_timeout = PATIENCE_S
    parameters.heartbeat = LOOK_HEARTBEAT_S
    return parameters


@contextmanager
def connected(broker: dramatiq.Broker) -> Iterator[pika.BlockingConnection]:
    """A connection for the block; whatever the broker does in it becomes one clear error.

    Raises
    ------
    BrokerUnavailable
    """
    parameters = connection_parameters(broker)
    where = f"RabbitMQ at {parameters.host}:{parameters.port}"
    try:
        connection = pika.BlockingConnection(parameters)
    except (pika.exceptions.AMQPError, AMQPConnectorException, OSError) as error:
        raise BrokerUnavailable(f"{where} {_reason(error)}") from error
    try:
        yield connection
    except (pika.exceptions.AMQPError, BrokerConnectionError) as error:
        raise BrokerUnavailable(f"{where} {_reason(error)}") from error
    finally:
        # What is not acked goes back to its queue.
        with suppress(pika.exceptions.AMQPError):
            connection.close()


def _reason(error: Exception) -> str:
    if isinstance(error, pika.exceptions.AMQPChannelError):
        return f"refuses what it was asked ({type(error).__name__})"
    fitting = (reason for kind, reason in REASONS.items() if isinstance(error, kind))
    return next(fitting, "does not answer")


#: What went wrong, if it is not that nobody answered.
REASONS: Mapping[type[Exception], str] = {
    pika.exceptions.ProbableAuthenticationError: "refuses the user or the password of AMQP_URL",
    pika.exceptions.ProbableAccessDeniedError: "refuses the virtual host of AMQP_URL",
    pika.exceptions.ConnectionBlockedTimeout: "takes no messages: it has raised an alarm",
}
