"""What a worker process holds: one store, one blob store, one publisher, and the models."""

from __future__ import annotations

import uuid
from functools import lru_cache
from typing import TYPE_CHECKING

import dramatiq

from actors.broker import Publisher
from actors.science import classifier
from db import queries
from db.blobs import Blobs
from db.session import Store
from db.settings import Settings

if TYPE_CHECKING:
    from actors.science.classifier import Model

#: Models that a process keeps in memory; sessions name theirs, so an old one may still be asked.
MODELS_KEPT = 4


class Runtime:
    """The collaborators of the actors. Made after a fork, once a process."""

    def __init__(self, settings: Settings, broker: dramatiq.Broker) -> None:
        self.settings = settings
        self.store = Store(settings.database_url)
        self.blobs = Blobs(settings.blob_url)
        self.publisher = Publisher(broker, prefix=settings.queue_prefix)
        self.model = lru_cache(maxsize=MODELS_KEPT)(self._load_model)

    def close(self) -> None:
        """Send what waits to be sent and close the connections."""
        self.publisher.close()
        self.store.close()

    def current_model_id(self) -> uuid.UUID:
        """The model that new sessions are given: the one that ships with the package."""
        model = classifier.shipped()
        with self.store.transaction() as db:
            return queries.register_model(
                db,
                name=str(model.header["name"]),
                version=str(model.header["version"]),
                sha256=model.sha256,
                header=dict(model.header),
            )

    def _load_model(self, model_id: uuid.UUID) -> Model:
        with self.store.transaction() as db:
            row = queries.get_model(db, model_id)
        if row is None:
            raise LookupError(f"model {model_id} is not in the store")
        if row.blob_key is not None:
            model = classifier.Model.from_bytes(self.blobs.get(row.blob_key))
        else:
            model = classifier.shipped()
        if model.sha256 != row.sha256:
            # Workers of two releases side by side ship two models: another worker has this one.
            raise LookupError(f"model {row.name} {row.version} is not in this worker")
        return model
