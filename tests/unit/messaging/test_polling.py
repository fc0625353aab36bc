"""Due rows are consumed while the broker is away, a few at a time."""

from __future__ import annotations

import uuid

import dramatiq

from actors.messaging.messages import ProcessAudioFile
from actors.messaging.polling import POLLED_QUEUE, PollingConsumer


class Rows:
    """Rows that are due, of which each poll takes two."""

    def __init__(self, n_due: int) -> None:
        self.due = [ProcessAudioFile(session_id=uuid.uuid4()) for _ in range(n_due)]
        self.polls = 0
        self.is_away = True

    def take(self) -> list[ProcessAudioFile]:
        self.polls += 1
        taken, self.due = self.due[:2], self.due[2:]
        return taken

    def consumer(self) -> PollingConsumer:
        return PollingConsumer(self.take, lambda: self.is_away, timeout_s=0.01)


def taken(consumer: PollingConsumer) -> dramatiq.MessageProxy:
    message = next(consumer)
    assert message is not None
    return message


def test_nothing_is_polled_while_there_is_a_broker() -> None:
    rows = Rows(1)
    rows.is_away = False
    consumer = rows.consumer()
    assert next(consumer) is None
    assert rows.polls == 0
    rows.is_away = True
    message = taken(consumer)
    assert (message.queue_name, message.actor_name) == (POLLED_QUEUE, ProcessAudioFile.actor)


def test_more_is_polled_once_what_was_taken_is_handled() -> None:
    rows = Rows(3)
    consumer = rows.consumer()
    first, second = taken(consumer), taken(consumer)
    assert next(consumer) is None
    consumer.ack(first)
    assert next(consumer) is None
    assert rows.polls == 1
    consumer.nack(second)
    assert next(consumer) is not None
    assert rows.polls == 2


def test_what_was_taken_is_handled_though_the_broker_is_back() -> None:
    rows = Rows(2)
    consumer = rows.consumer()
    first = taken(consumer)
    rows.is_away = False
    second = taken(consumer)
    for message in (first, second):
        consumer.ack(message)
    assert next(consumer) is None
    assert rows.polls == 1


def test_a_database_that_is_away_too_is_polled_again() -> None:
    rows = Rows(1)
    answers = [rows.take]

    def take() -> list[ProcessAudioFile]:
        if rows.polls == 0:
            rows.polls += 1
            raise ConnectionRefusedError
        return answers[0]()

    consumer = PollingConsumer(take, lambda: True, timeout_s=0.01)
    assert next(consumer) is None
    assert next(consumer) is not None
