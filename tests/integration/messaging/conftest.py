"""A RabbitMQ with separate queues for each test."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from actors.messaging import broker
from db.settings import Settings


@pytest.fixture
def rabbit(rabbit_settings: Settings) -> Iterator[Any]:
    rabbit = broker.setup(rabbit_settings)
    yield rabbit
    rabbit.close()


@pytest.fixture
def prefix(rabbit_settings: Settings) -> str:
    return rabbit_settings.queue_prefix


@pytest.fixture
def environment(rabbit_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Set the environment that the ``clamor`` command reads."""
    given = {
        "DATABASE_URL": rabbit_settings.database_url,
        "AMQP_URL": rabbit_settings.amqp_url,
        "BLOB_URL": rabbit_settings.blob_url,
        "CLAMOR_QUEUE_PREFIX": rabbit_settings.queue_prefix,
    }
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    return given
