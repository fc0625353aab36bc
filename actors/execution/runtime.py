"""What a worker process holds: one store, one blob store, one publisher, and the models."""

from __future__ import annotations

import hashlib
import uuid
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

import dramatiq
import structlog

from actors import backbones
from actors.execution.failures import Permanent
from actors.execution.watchdog import Watchdog
from actors.messaging.broker import Publisher
from actors.outbound.client import Outbound
from actors.science.detection import classifier
from actors.science.errors import ModelError
from actors.science.tagging import tagger
from actors.science.tagging.backbone import Backbone
from actors.science.tagging.tagger import Tagger
from db.blobs import BlobMissing, Blobs, shipped_key
from db.queries import model_queries
from db.settings import Settings
from db.store import Store
from db.tables.models import NoiseModel

if TYPE_CHECKING:
    from actors.science.detection.classifier import Model

log = structlog.get_logger(__name__)

#: Models that a process keeps in memory; sessions name theirs, so an old one may still be asked.
MODELS_KEPT = 4


class Runtime:
    """The collaborators of the actors. Made after a fork, once a process.

    ``owns_process`` says that the process serves nothing but the actors, one run at a time: it
    may be left when a run is stuck.
    """

    def __init__(
        self, settings: Settings, broker: dramatiq.Broker, *, owns_process: bool = False
    ) -> None:
        self.settings = settings
        self.store = Store(settings.database_url)
        self.blobs = Blobs(settings.blob_url)
        self.publisher = Publisher(broker, prefix=settings.queue_prefix)
        self.outbound = Outbound(settings.private_networks)
        self.watchdog = Watchdog(leaves=owns_process)
        self.model = lru_cache(maxsize=MODELS_KEPT)(self.read_model)

    def close(self) -> None:
        """Send what waits to be sent and close the connections."""
        self.publisher.close()
        self.store.close()

    @property
    def tagger(self) -> Tagger | None:
        """The base types over the backbone; None where its weights are missing or not used."""
        return self._tagger[0]

    def tagger_for(self, model: Model) -> Tagger | None:
        """The base types beside a model: its own head, if it was trained on this backbone.

        Raises
        ------
        ModelError
            When the head says so, but takes other embeddings.
        """
        shipped, head = self.tagger, model.head
        if shipped is None or head is None:
            return shipped
        if head.header["backbone_sha256"] != shipped.head.header["backbone_sha256"]:
            return shipped
        if head.arrays["mean"].size != shipped.backbone.n_embedding:
            raise ModelError("the head of the model does not fit the backbone that it names")
        return Tagger(shipped.backbone, head)

    @property
    def backbone_state(self) -> str:
        """Whether the backbone is used, in one line."""
        return self._tagger[1]

    @cached_property
    def _tagger(self) -> tuple[Tagger | None, str]:
        """The tagger and its state, which is logged once."""
        found, state = _read_tagger(backbones.source(self.settings.backbone_url))
        log.info("backbone", is_used=found is not None, state=state)
        return found, state

    def current_model_id(self) -> uuid.UUID:
        """The model that new sessions are given: the promoted one, else the one that ships.

        Asked of the database each time: a promotion takes effect without a restart.
        """
        with self.store.transaction() as db:
            promoted = model_queries.promoted_model_id(db)
        return promoted or self.shipped_model_id

    @cached_property
    def shipped_model_id(self) -> uuid.UUID:
        """The model that comes with this package; it is registered, and its file is kept."""
        model = classifier.shipped()
        data = model.to_bytes()
        assert hashlib.sha256(data).hexdigest() == model.sha256
        key = shipped_key(model.sha256)
        self.blobs.put(key, data)
        with self.store.transaction() as db:
            return model_queries.register_shipped(
                db,
                blob_key=key,
                name=str(model.header["name"]),
                version=str(model.header["version"]),
                sha256=model.sha256,
                header=dict(model.header),
            )

    def read_model(self, model_id: uuid.UUID) -> Model:
        """A model, read anew from where it is stored; raises if it is not whole."""
        with self.store.transaction() as db:
            row = model_queries.get_model(db, model_id)
        if row is None:
            raise Permanent("unknown-model", f"no model has the id {model_id}")
        if row.blob_key is None:
            return _of_this_release(row)
        try:
            data = self.blobs.get(row.blob_key)
        except BlobMissing:
            raise ModelError(
                f"the file of model {row.name} {row.version} is no longer stored"
            ) from None
        if hashlib.sha256(data).hexdigest() != row.sha256:
            raise ModelError(
                f"the file of model {row.name} {row.version} is not the one that was registered: "
                "its hash does not fit"
            )
        return classifier.Model.from_bytes(data)


def _of_this_release(row: NoiseModel) -> Model:
    model = classifier.shipped()
    if model.sha256 != row.sha256:
        # Workers of two releases side by side ship two models: another worker has this one.
        raise LookupError(f"model {row.name} {row.version} is not in this worker")
    return model


def _read_tagger(wanted: backbones.Source | None) -> tuple[Tagger | None, str]:
    """Read the backbone and the head that ships; without them None, and the reason."""
    if wanted is None:
        return None, "none is used, by CLAMOR_BACKBONE_URL"
    data = backbones.find(wanted)
    if data is None:
        return None, f"{wanted.name} is not there; `clamor model fetch` gets it"
    head = tagger.shipped_head()
    if head.header["backbone_sha256"] != wanted.sha256:
        return None, f"{wanted.name} is not used: the base types were trained on another backbone"
    try:
        return Tagger(Backbone.from_bytes(data), head), f"{wanted.name} is used"
    except ModelError as error:
        return None, f"{wanted.name} is not used: {error}"
