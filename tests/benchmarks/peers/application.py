"""The Celery application of the peers, with the settings that Celery advises for long tasks."""

from __future__ import annotations

import os
from typing import Any

from celery import Celery

#: Name the broker and the queue.
BROKER_VARIABLE, QUEUE_VARIABLE = "PEERS_AMQP_URL", "PEERS_QUEUE"
#: Names the seconds of a chunk.
CHUNK_VARIABLE = "PEERS_CHUNK_S"


def create() -> Any:
    """Return an application of one durable queue.

    A task is acknowledged after it has run, so that a dead worker loses none, and a process fetches
    one at a time, so that none waits behind a long one. Results are in the tables.
    """
    app = Celery("peers", broker=os.environ[BROKER_VARIABLE])
    app.conf.update(
        task_default_queue=os.environ[QUEUE_VARIABLE],
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_ignore_result=True,
        worker_prefetch_multiplier=1,
        broker_connection_retry_on_startup=True,
    )
    return app
