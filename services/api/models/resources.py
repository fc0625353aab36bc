"""``/v1/models``: models, their quality, and the one in use."""

from __future__ import annotations

import hashlib
import uuid

import falcon
import msgspec
from sqlalchemy.orm import Session

from actors import backbones
from actors.messaging.broker import Publisher
from db.blobs import BlobMissing, Blobs
from db.queries import list_queries, model_queries
from db.store import Store
from db.tables.models import NoiseModel
from services.api.models import promotion, trainings
from services.api.models.errors import InvalidManifest, InvalidOptions, ModelDamaged, Regression
from services.api.sessions import list_schemas, schemas
from services.api.sessions.errors import UploadTooLarge
from services.http import cursors, responses
from services.http.access import ADMIN, owner
from services.http.not_found import NotFound
from services.http.operations import body_of, operation, query_of
from services.http.request_errors import InvalidBody, InvalidForm, UnsupportedUpload
from services.http.responses import answer


class Force(msgspec.Struct, forbid_unknown_fields=True):
    """A request to promote a model."""

    #: True to promote the model even if noise types are lost or metrics get worse.
    force: bool = False


class ModelList:
    """``GET /v1/models``; ``POST /v1/models`` trains a new one."""

    def __init__(
        self,
        store: Store,
        blobs: Blobs,
        publisher: Publisher,
        backbone: backbones.Source | None,
        *,
        max_upload_bytes: int,
    ) -> None:
        self._store = store
        self._blobs = blobs
        self._publisher = publisher
        self._backbone = backbone
        self._max_upload_bytes = max_upload_bytes

    @operation(scope="sessions:read", query=list_schemas.ModelQuery, answer=schemas.ModelPage)
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """List models, newest first by default. ``in_use`` marks the model in use, and ``backbone``
        shows whether the weights of the backbone are present.
        """
        asked = query_of(req, list_schemas.ModelQuery)
        order = list_queries.MODELS[asked.sort]
        after = cursors.after(req, asked, order)
        with self._store.reading() as db:
            in_use = model_queries.model_in_use(db)
            page = list_queries.models(
                db, owner=owner(req), order=order, after=after, limit=asked.limit
            )
        items = [
            schemas.Model.of(row[0], in_use=in_use is not None and row[0].id == in_use.id)
            for row in page.rows
        ]
        cursor = cursors.following(req, resp, asked, page.next)
        backbone = _backbone(self._backbone)
        answer(resp, schemas.ModelPage(items=items, next_cursor=cursor, backbone=backbone))

    @operation(
        scope="models:write",
        takes={falcon.MEDIA_MULTIPART: trainings.ClipsForm},
        answer=schemas.Training,
        status=202,
        problems=(InvalidForm, InvalidManifest, InvalidOptions, UnsupportedUpload, UploadTooLarge),
    )
    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Train a model on labelled recordings. A worker does the training."""
        training = trainings.start(
            req,
            store=self._store,
            blobs=self._blobs,
            publisher=self._publisher,
            max_upload_bytes=self._max_upload_bytes,
        )
        _answer_training(resp, training)

    def made(self, req: falcon.Request, resp: falcon.Response, made_id: uuid.UUID) -> bool:
        """Answer with the training that an earlier attempt of this request created."""
        try:
            training = trainings.load(self._store, made_id, owner=owner(req))
        except NotFound:
            return False
        _answer_training(resp, training)
        return True


def _backbone(wanted: backbones.Source | None) -> schemas.Backbone | None:
    if wanted is None:
        return None
    return schemas.Backbone(
        name=wanted.name, sha256=wanted.sha256, present=backbones.is_there(wanted)
    )


def _answer_training(resp: falcon.Response, training: schemas.Training) -> None:
    resp.location = f"/v1/trainings/{training.id}"
    answer(resp, training, status=202)


class ModelItem:
    """``GET /v1/models/{model_id}``."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @operation(scope="sessions:read", answer=schemas.Model, problems=(NotFound.of("model"),))
    def on_get(self, req: falcon.Request, resp: falcon.Response, model_id: uuid.UUID) -> None:
        """Return a model with its card."""
        with self._store.transaction() as db:
            row = found(db, model_id, owner=owner(req))
            in_use = model_queries.model_in_use(db)
        is_in_use = in_use is not None and row.id == in_use.id
        answer(resp, schemas.Model.of(row, in_use=is_in_use, with_card=True))


class ModelConfusion:
    """``GET /v1/models/{model_id}/confusion.png``."""

    def __init__(self, store: Store, blobs: Blobs) -> None:
        self._store = store
        self._blobs = blobs

    @operation(
        scope="sessions:read",
        media=falcon.MEDIA_PNG,
        also={304: None},
        problems=(NotFound.of("model"),),
    )
    def on_get(self, req: falcon.Request, resp: falcon.Response, model_id: uuid.UUID) -> None:
        """Return the confusion matrix of a model as a picture."""
        with self._store.transaction() as db:
            row = found(db, model_id, owner=owner(req))
        key = row.confusion_key
        if key is None:
            raise NotFound.of("model")(
                "this model was not trained by this installation, so it has no confusion matrix"
            )
        if responses.is_current(req, resp, tag=row.sha256):
            return
        resp.content_type = falcon.MEDIA_PNG
        try:
            resp.data = self._blobs.get(key)
        except BlobMissing:
            raise NotFound.of("model")("the confusion matrix is no longer stored") from None


class ModelFile:
    """``GET /v1/models/{model_id}/file``."""

    def __init__(self, store: Store, blobs: Blobs) -> None:
        self._store = store
        self._blobs = blobs

    @operation(
        scope="sessions:read",
        media="application/octet-stream",
        also={304: None},
        problems=(NotFound.of("model"), ModelDamaged),
    )
    def on_get(self, req: falcon.Request, resp: falcon.Response, model_id: uuid.UUID) -> None:
        """Download the file of a model, after checking its hash."""
        with self._store.transaction() as db:
            row = found(db, model_id, owner=owner(req))
        if responses.is_current(req, resp, tag=row.sha256):
            return
        resp.data = _file(self._blobs, row)
        resp.content_type = "application/octet-stream"
        resp.downloadable_as = f"{row.name}-{row.version}.clamor"


class ModelPromote:
    """``POST /v1/models/{model_id}/promote``."""

    def __init__(self, store: Store, blobs: Blobs) -> None:
        self._store = store
        self._blobs = blobs

    # Administrators only: it changes the default model of all users.
    @operation(
        scope=ADMIN,
        body=Force,
        answer=schemas.PromotionRecord,
        problems=(InvalidBody, NotFound.of("model"), ModelDamaged, Regression),
    )
    def on_post(self, req: falcon.Request, resp: falcon.Response, model_id: uuid.UUID) -> None:
        """Promote a model to be the one in use. A worse model is refused unless ``force`` is set.

        A model is worse if it cannot detect a noise type of the model in use, or if its accuracy,
        calibration or another metric is worse. Promoting the model in use changes nothing.
        """
        force = body_of(req, Force).force
        with self._store.transaction() as db:
            model_queries.lock_promotions(db)
            row = found(db, model_id, owner=owner(req))
            latest = model_queries.latest_promotion(db)
            if latest is not None and latest.model_id == model_id:
                answer(resp, schemas.PromotionRecord.of(latest))
                return
            # `force` does not skip this check: with a damaged file every session would fail.
            _file(self._blobs, row)
            in_use = model_queries.model_in_use(db)
            shared = (
                model_queries.shared_validations(db, model_id, in_use.id)
                if in_use is not None
                else None
            )
            comparison = promotion.compare(row, in_use, shared)
            figures = msgspec.to_builtins(comparison)
            if comparison.is_regression and not force:
                raise Regression(comparison.reason(), comparison=figures)
            made = model_queries.add_promotion(
                db, model_id=model_id, forced=comparison.is_regression, comparison=figures
            )
            record = schemas.PromotionRecord.of(made)
        answer(resp, record)


def found(db: Session, model_id: uuid.UUID, *, owner: uuid.UUID | None) -> NoiseModel:
    """Return the row of a model.

    Raises
    ------
    NotFound
        Also for a model of another user.
    """
    row = model_queries.get_model(db, model_id, owner=owner)
    if row is None:
        raise NotFound.of("model")(f"no model has the ID {model_id}")
    return row


def _file(blobs: Blobs, row: NoiseModel) -> bytes:
    """Return the file of a model; raises :class:`ModelDamaged` if its hash does not match."""
    try:
        data = blobs.get(row.blob_key) if row.blob_key is not None else None
    except BlobMissing:
        data = None
    if data is None:
        raise ModelDamaged(f"the file of {row.name} {row.version} is not stored")
    if hashlib.sha256(data).hexdigest() != row.sha256:
        raise ModelDamaged(
            f"the file of {row.name} {row.version} does not match the registered hash"
        )
    return data
