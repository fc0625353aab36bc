"""``clamor openapi``: print the OpenAPI description without a running API."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
from prometheus_client import CollectorRegistry

from actors.messaging import broker
from actors.messaging.broker import Publisher
from db.blobs.blob_store import Blobs
from db.settings import Settings
from db.store import Store
from services import app
from services.http.deps import Deps
from services.openapi import document as openapi


@contextmanager
def unconnected_routes() -> Iterator[dict[str, object]]:
    """Yield the route table over stores that do not exist: for descriptions, not for requests."""
    with tempfile.TemporaryDirectory(prefix="clamor-openapi-") as folder:
        settings = Settings(
            database_url="postgresql://nobody@localhost/nothing",
            amqp_url="memory://",
            blob_url=Path(folder).as_uri(),
            key_pepper="unused: there are no keys here to hash",
        )
        publisher = Publisher(broker.setup(settings), prefix=settings.queue_prefix)
        store = Store(settings.database_url)
        try:
            yield app.routes(
                Deps(
                    settings=settings,
                    store=store,
                    blobs=Blobs(settings.blob_url),
                    publisher=publisher,
                ),
                registry=CollectorRegistry(),
            )
        finally:
            store.close()
            publisher.close()


def show() -> int:
    """Print the OpenAPI document."""
    with unconnected_routes() as routes:
        written = msgspec.json.format(msgspec.json.encode(openapi.document(routes)), indent=2)
    sys.stdout.buffer.write(written + b"\n")
    return 0
