"""The dependencies of a worker process: store, blob store, publisher and models."""

from __future__ import annotations

import hashlib
import uuid
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

import dramatiq
import structlog

from actors.execution.failures import Permanent
from actors.execution.turns import Turns
from actors.execution.unreturned import UnreturnedClaims
from actors.execution.watchdog import Watchdog
from actors.messaging.broker import Publisher, time_limit
from actors.outbound import backbones
from actors.outbound.client import Outbound
from actors.science.detection import classifier
from actors.science.detection.tagging import tagger
from actors.science.detection.tagging.backbone import BackboneNetwork
from actors.science.detection.tagging.tagger import Tagger
from actors.science.errors import ModelError
from db.blobs.blob_store import Blobs
from db.blobs.errors import BlobMissing
from db.blobs.keys import shipped_key
from db.queries import model_queries
from db.secret_box import SecretBox
from db.settings import Settings
from db.store import Store

if TYPE_CHECKING:
    from actors.science.detection.classifier import Classifier

log = structlog.get_logger(__name__)

#: Models kept in memory per process. Sessions name their model, so old ones may still be needed.
MODELS_KEPT = 4


class Runtime:
    """The dependencies of the actors. Created once per process, after the fork.

    ``owns_process``: the process runs only actors, one run at a time, and may exit when a run is
    stuck.
    """

    def __init__(
        self, settings: Settings, broker: dramatiq.Broker, *, owns_process: bool = False
    ) -> None:
        self.settings = settings
        self.store = Store(
            settings.database_url,
            pool_size=settings.worker_pool_size,
            options=settings.connection_options("clamor-worker"),
        )
        self.blobs = Blobs.of(settings)
        self.publisher = Publisher(broker, prefix=settings.queue_prefix)
        self.outbound = Outbound(settings.private_networks)
        self.unreturned = UnreturnedClaims()
        self.turns = Turns()
        self.watchdog = Watchdog(leaves=owns_process, limit=time_limit(broker))
        self.model = lru_cache(maxsize=MODELS_KEPT)(self.read_model)

    def close(self) -> None:
        """Send pending nudges and close the connections."""
        self.publisher.close()
        self.store.close()

    @cached_property
    def secret_box(self) -> SecretBox:
        """Decrypts the secrets of webhooks."""
        return SecretBox(self.settings.secret_keys)

    @property
    def tagger(self) -> Tagger | None:
        """The tagger of the base types; None if the backbone is missing or not used."""
        return self.loaded_tagger[0]

    def tagger_for(self, model: Classifier) -> Tagger | None:
        """Return the tagger for a model: with its own head, if it was trained on this backbone.

        Raises
        ------
        ModelError
            If the head names this backbone, but takes embeddings of another size.
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
        """One line that says whether the backbone is used, and why not."""
        return self.loaded_tagger[1]

    @cached_property
    def loaded_tagger(self) -> tuple[Tagger | None, str]:
        """The tagger and its state. The state is logged once."""
        found, state = _read_tagger(backbones.source(self.settings.backbone_url))
        log.info("backbone", is_used=found is not None, state=state)
        return found, state

    def current_model_id(self) -> uuid.UUID:
        """Return the model for new sessions: the promoted one, else the shipped one.

        Queried each time, so that a promotion takes effect without a restart.
        """
        with self.store.reading() as tx:
            promoted = model_queries.promoted_model_id(tx)
        return promoted or self.shipped_model_id

    @cached_property
    def shipped_model_id(self) -> uuid.UUID:
        """The ID of the shipped model. First use registers it and stores its file."""
        model = classifier.shipped()
        data = model.to_bytes()
        assert hashlib.sha256(data).hexdigest() == model.sha256
        key = shipped_key(model.sha256)
        self.blobs.put(key, data)
        with self.store.transaction() as tx:
            return model_queries.register_model(
                tx,
                blob_key=key,
                name=str(model.header["name"]),
                version=str(model.header["version"]),
                sha256=model.sha256,
                header=dict(model.header),
                is_shipped=True,
            )

    def read_model(self, model_id: uuid.UUID) -> Classifier:
        """Load a model from storage; raise if it is incomplete."""
        with self.store.transaction() as tx:
            row = model_queries.get_model(tx, model_id)
        if row is None:
            raise Permanent("unknown-model", f"no model has the id {model_id}")
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
        # The one of the package has its gate, too.
        shipped = classifier.shipped()
        return shipped if row.sha256 == shipped.sha256 else classifier.Classifier.from_bytes(data)


def _read_tagger(wanted: backbones.WeightsSource | None) -> tuple[Tagger | None, str]:
    """Load the backbone and the shipped head; None, and the reason, if they cannot be used."""
    if wanted is None:
        return None, "none is used, by CLAMOR_BACKBONE_URL"
    data = backbones.find(wanted)
    if data is None:
        return None, f"{wanted.name} is not there; `clamor model fetch` gets it"
    head = tagger.shipped_head()
    if head.header["backbone_sha256"] != wanted.sha256:
        return None, f"{wanted.name} is not used: the base types were trained on another backbone"
    try:
        return Tagger(BackboneNetwork.from_bytes(data), head), f"{wanted.name} is used"
    except ModelError as error:
        return None, f"{wanted.name} is not used: {error}"
