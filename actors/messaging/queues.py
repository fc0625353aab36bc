"""Queue depths: ready, unacked and dead messages.

There are two sources. The broker counts messages; Postgres counts the rows that they name, which
are authoritative. Light: the HTTP process imports this.
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

from actors.messaging import kinds, messages
from actors.messaging.deadlines import PromptConnection
from actors.messaging.messages import Nudge
from actors.messaging.rabbitmq import NOT_FOUND, QuorumBroker

log = structlog.get_logger(__name__)

#: Timeout for a connection to the broker, and for a response of its management API.
PATIENCE_S = 2


class BrokerUnavailable(Exception):
    """The broker cannot be queried. The message says why, and contains no password."""


@dataclass(frozen=True, kw_only=True)
class Depth:
    """The depth of one queue, as its broker counts it."""

    nudge: type[Nudge]
    #: Messages that wait for a worker.
    ready: int
    #: Dead-lettered messages, kept for inspection.
    dead: int
    consumers: int
    #: Messages delivered to workers and not acked yet; None if unknown.
    unacked: int | None


def check(broker: dramatiq.Broker) -> None:
    """Raise :class:`BrokerUnavailable` unless the broker responds."""
    if not isinstance(broker, StubBroker):
        with connected(broker):
            pass


def check_consumers(broker: dramatiq.Broker) -> None:
    """Raise :class:`BrokerUnavailable` unless this process consumes its queues, and publishes.

    Unlike :func:`check`, it opens no connection.
    """
    if away_s(broker):
        raise BrokerUnavailable("RabbitMQ was away at the last try")


def away_s(broker: dramatiq.Broker) -> float:
    """Return for how many seconds the broker has been away; 0 if it is not."""
    return broker.away_s if isinstance(broker, QuorumBroker) else 0.0


def depths(broker: dramatiq.Broker, *, prefix: str, api_url: str = "") -> list[Depth]:
    """Return the depth of the queue of every kind of work.

    AMQP does not expose unacked messages; RabbitMQ's management API does, if ``api_url`` names one
    that responds. A queue that was never used is not on the broker yet, and counts as empty.

    Raises
    ------
    BrokerUnavailable
    """
    if isinstance(broker, StubBroker):
        return [_in_memory(broker, kind.message, prefix) for kind in kinds.KINDS]
    with connected(broker) as connection:
        virtual_host = connection_parameters(broker).virtual_host
        unacked = _unacked(api_url, virtual_host) if api_url else {}
        found = []
        for kind in kinds.KINDS:
            queue = messages.queue_name(kind.message, prefix=prefix)
            ready, consumers = count(connection, queue)
            dead, _ = count(connection, xq_name(queue))
            found.append(
                Depth(
                    nudge=kind.message,
                    ready=ready,
                    dead=dead,
                    consumers=consumers,
                    unacked=unacked.get(queue),
                )
            )
        return found


def _in_memory(broker: StubBroker, nudge: type[Nudge], prefix: str) -> Depth:
    """Return the depth of a queue of the standalone service, whose queues are in this process."""
    name = messages.queue_name(nudge, prefix=prefix)
    queue = broker.queues[name]
    ready = queue.qsize()
    return Depth(
        nudge=nudge,
        ready=ready,
        dead=len(broker.dead_letters_by_queue[name]),
        # Its workers are threads that are not tied to a queue.
        consumers=0,
        unacked=max(queue.unfinished_tasks - ready, 0),
    )


def count(connection: pika.BlockingConnection, queue: str) -> tuple[int, int]:
    """Return the numbers of ready messages and of consumers, without declaring the queue."""
    # RabbitMQ closes the channel if the queue does not exist.
    channel = connection.channel()
    try:
        declared = channel.queue_declare(queue, passive=True).method
    except pika.exceptions.ChannelClosedByBroker as error:
        if error.reply_code != NOT_FOUND:
            raise
        return 0, 0
    channel.close()
    return declared.message_count, declared.consumer_count


def _unacked(api_url: str, virtual_host: str) -> dict[str, int]:
    """Return unacked messages by queue from the management API; nothing if it does not respond."""
    try:
        given = httpx.URL(api_url)
        answer = httpx.get(
            # Without the password, so that it appears in no log or error.
            given.copy_with(
                userinfo=b"",
                raw_path=f"{given.path.rstrip('/')}/api/queues/{quote(virtual_host, safe='')}"
                "?columns=name,messages_unacknowledged".encode(),
            ),
            auth=(given.username, given.password),
            timeout=PATIENCE_S,
        )
        answer.raise_for_status()
        # A queue that was just created has no statistics yet.
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
    """Return the connection parameters of the workers, with shorter timeouts."""
    assert isinstance(broker, QuorumBroker)
    parameters: Any = copy.copy(broker.parameters)
    parameters.socket_timeout = parameters.stack_timeout = PATIENCE_S
    return parameters


@contextmanager
def connected(broker: dramatiq.Broker) -> Iterator[pika.BlockingConnection]:
    """Open a connection for the block, and turn every error of the broker in it into one.

    Raises
    ------
    BrokerUnavailable
    """
    parameters = connection_parameters(broker)
    where = f"RabbitMQ at {parameters.host}:{parameters.port}"
    try:
        connection = PromptConnection(parameters)
    except (pika.exceptions.AMQPError, AMQPConnectorException, OSError) as error:
        raise BrokerUnavailable(f"{where} {_reason(error)}") from error
    try:
        yield connection
    except (pika.exceptions.AMQPError, BrokerConnectionError) as error:
        raise BrokerUnavailable(f"{where} {_reason(error)}") from error
    finally:
        # Unacked messages return to their queue.
        with suppress(pika.exceptions.AMQPError):
            connection.close()


def _reason(error: Exception) -> str:
    if isinstance(error, pika.exceptions.AMQPChannelError):
        return f"rejected the request ({type(error).__name__})"
    fitting = (reason for kind, reason in REASONS.items() if isinstance(error, kind))
    return next(fitting, "does not answer")


#: The reasons of errors other than a missing response.
REASONS: Mapping[type[Exception], str] = {
    pika.exceptions.ProbableAuthenticationError: "refuses the user or the password of AMQP_URL",
    pika.exceptions.ProbableAccessDeniedError: "refuses the virtual host of AMQP_URL",
    pika.exceptions.ConnectionBlockedTimeout: "accepts no messages: it has raised an alarm",
}
