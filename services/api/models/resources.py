"""``/v1/models``: models, their quality, and the one in use."""

from __future__ import annotations

import hashlib
import uuid
from io import BufferedReader

import falcon
import msgspec
from sqlalchemy.orm import Session

from actors.outbound import backbones
from db.blobs.blob_store import Blobs
from db.queries import deletion_queries, list_queries, model_queries
from db.tables.models import NoiseModel
from services.api.common.errors import UploadTooLarge
from services.api.models import promotion, schemas, trainings
from services.api.models.errors import (
    InvalidManifest,
    InvalidOptions,
    ModelDamaged,
    ModelInUse,
    Regression,
)
from services.http import responses
from services.http.access import ADMIN, owner
from services.http.caller_errors import TooManyUnfinished
from services.http.lists import Listed, Part, listing
from services.http.not_found import NotFound, or_404
from services.http.operations import body_of, operation
from services.http.request_errors import UnsupportedUpload
from services.http.resource import Resource
from services.http.responses import FileRange, answer, if_missing


class Force(msgspec.Struct, forbid_unknown_fields=True):
    """A request to promote a model."""

    #: True to promote the model even if noise types are lost or metrics get worse.
    force: bool = False


class ModelList(Resource):
    """``GET /v1/models``; ``POST /v1/models`` trains a new one."""

    @listing(
        scope="sessions:read",
        query=schemas.ModelQuery,
        answer_type=schemas.ModelPage,
        orders=list_queries.MODELS,
    )
    def on_get(
        self, tx: Session, asked: schemas.ModelQuery, part: Part, owner: uuid.UUID | None
    ) -> Listed:
        """List models, newest first by default. ``in_use`` marks the model in use, and ``backbone``
        shows whether the weights of the backbone are present.
        """
        in_use = model_queries.model_in_use(tx)
        return Listed(
            list_queries.models(tx, owner=owner, **part),
            lambda row: schemas.Model.of(
                row[0], in_use=in_use is not None and row[0].id == in_use.id
            ),
            backbone=_backbone(self.deps.backbone),
        )

    @operation(
        scope="models:write",
        takes={falcon.MEDIA_MULTIPART: trainings.ClipsForm},
        answer=schemas.Training,
        status=202,
        problems=(
            InvalidManifest,
            InvalidOptions,
            TooManyUnfinished,
            UnsupportedUpload,
            UploadTooLarge,
        ),
    )
    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Train a model on labelled recordings. A worker does the training."""
        _answer_training(resp, trainings.start(req, self.deps))

    def replay(self, req: falcon.Request, resp: falcon.Response, made_id: uuid.UUID) -> None:
        """Answer with the training that an earlier attempt of this request created."""
        _answer_training(resp, trainings.fetch_view(self.deps.store, made_id, owner=owner(req)))


def _backbone(wanted: backbones.WeightsSource | None) -> schemas.Backbone | None:
    if wanted is None:
        return None
    return schemas.Backbone(
        name=wanted.name, sha256=wanted.sha256, present=backbones.is_there(wanted)
    )


def _answer_training(resp: falcon.Response, training: schemas.Training) -> None:
    answer(resp, training, status=202, location=f"/v1/trainings/{training.id}")


class ModelItem(Resource):
    """``/v1/models/{model_id}``."""

    @operation(scope="sessions:read", answer=schemas.Model, problems=(NotFound.of("model"),))
    def on_get(self, req: falcon.Request, resp: falcon.Response, model_id: uuid.UUID) -> None:
        """Return a model with its card."""
        with self.deps.store.transaction() as tx:
            row = get_or_404(tx, model_id, owner=owner(req))
            in_use = model_queries.model_in_use(tx)
        is_in_use = in_use is not None and row.id == in_use.id
        answer(resp, schemas.Model.of(row, in_use=is_in_use, with_card=True))

    @operation(scope="models:write", status=204, problems=(NotFound.of("model"), ModelInUse))
    def on_delete(self, req: falcon.Request, resp: falcon.Response, model_id: uuid.UUID) -> None:
        """Delete a model that is not in use, with its file, its validations and its promotions.
        Sessions that used it keep its name and version in their summaries. Only its user and
        administrators can.
        """
        with self.deps.store.transaction() as tx:
            model_queries.lock_promotions(tx)
            reason = deletion_queries.remove_model(tx, model_id, owner=owner(req))
        or_404(reason is not None, "model", model_id)
        if reason:
            raise ModelInUse(reason)
        resp.status = falcon.HTTP_204


class ModelConfusion(Resource):
    """``GET /v1/models/{model_id}/confusion.png``."""

    @operation(
        scope="sessions:read",
        media=falcon.MEDIA_PNG,
        also={304: None},
        problems=(NotFound.of("model"),),
    )
    def on_get(self, req: falcon.Request, resp: falcon.Response, model_id: uuid.UUID) -> None:
        """Return the confusion matrix of a model as a picture."""
        with self.deps.store.transaction() as tx:
            row = get_or_404(tx, model_id, owner=owner(req))
        key = row.confusion_key
        if key is None:
            raise NotFound.of("model")(
                "this model was not trained by this installation, so it has no confusion matrix"
            )
        if responses.is_current(req, resp, tag=row.sha256):
            return
        resp.content_type = falcon.MEDIA_PNG
        with if_missing(NotFound.of("model")("the confusion matrix is no longer stored")):
            resp.data = self.deps.blobs.get(key)


class ModelFile(Resource):
    """``GET /v1/models/{model_id}/file``."""

    @operation(
        scope="sessions:read",
        media="application/octet-stream",
        also={304: None},
        problems=(NotFound.of("model"), ModelDamaged),
    )
    def on_get(self, req: falcon.Request, resp: falcon.Response, model_id: uuid.UUID) -> None:
        """Download the file of a model, after checking its hash."""
        with self.deps.store.transaction() as tx:
            row = get_or_404(tx, model_id, owner=owner(req))
        if responses.is_current(req, resp, tag=row.sha256):
            return
        stored, n_bytes = _file(self.deps.blobs, row)
        resp.set_stream(FileRange(stored, 0, n_bytes), n_bytes)
        resp.content_type = "application/octet-stream"
        resp.downloadable_as = f"{row.name}-{row.version}.clamor"


class ModelPromote(Resource):
    """``POST /v1/models/{model_id}/promote``."""

    # Administrators only: it changes the default model of all users.
    @operation(
        scope=ADMIN,
        body=Force,
        answer=schemas.PromotionRecord,
        problems=(NotFound.of("model"), ModelDamaged, Regression),
    )
    def on_post(self, req: falcon.Request, resp: falcon.Response, model_id: uuid.UUID) -> None:
        """Promote a model to be the one in use. A worse model is refused unless ``force`` is set.

        A model is worse if it cannot detect a noise type of the model in use, or if its accuracy,
        calibration or another metric is worse. Promoting the model in use changes nothing.
        """
        force = body_of(req, Force).force
        with self.deps.store.transaction() as tx:
            model_queries.lock_promotions(tx)
            row = get_or_404(tx, model_id, owner=owner(req))
            latest = model_queries.latest_promotion(tx)
            if latest is not None and latest.model_id == model_id:
                answer(resp, schemas.PromotionRecord.of(latest))
                return
            # `force` does not skip this check: with a damaged file every session would fail.
            stored, _ = _file(self.deps.blobs, row)
            stored.close()
            in_use = model_queries.model_in_use(tx)
            shared = (
                model_queries.shared_validations(tx, model_id, in_use.id)
                if in_use is not None
                else None
            )
            comparison = promotion.compare(row, in_use, shared)
            figures = msgspec.to_builtins(comparison)
            if comparison.is_regression and not force:
                raise Regression(comparison.reason(), comparison=figures)
            made = model_queries.add_promotion(
                tx, model_id=model_id, forced=comparison.is_regression, comparison=figures
            )
            record = schemas.PromotionRecord.of(made)
        answer(resp, record)


def get_or_404(tx: Session, model_id: uuid.UUID, *, owner: uuid.UUID | None) -> NoiseModel:
    """Return the row of a model; raises :class:`NotFound`, also for one of another user."""
    return or_404(model_queries.get_model(tx, model_id, owner=owner), "model", model_id)


def _file(blobs: Blobs, row: NoiseModel) -> tuple[BufferedReader, int]:
    """Return the file of a model, and its size; raises :class:`ModelDamaged` if its hash differs.

    It is read twice rather than held in memory, as it may have 64 MiB.
    """
    with if_missing(ModelDamaged(f"the file of {row.name} {row.version} is not stored")):
        stored = blobs.open(row.blob_key)
        digest = hashlib.file_digest(stored, "sha256").hexdigest()
    if digest != row.sha256:
        stored.close()
        raise ModelDamaged(
            f"the file of {row.name} {row.version} does not match the registered hash"
        )
    return stored, stored.tell()
