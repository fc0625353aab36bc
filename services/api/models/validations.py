"""Validations: check and measure a model, or a model file."""

from __future__ import annotations

import hashlib
import uuid
from typing import Unpack

import falcon
import msgspec
from sqlalchemy.orm import Session

from actors.messaging.messages import ValidateModel
from actors.observability import tracing
from db.blobs.keys import validation_prefix
from db.queries import list_queries, model_queries
from db.queries.model_queries import RequestedValidation
from db.store import Store
from db.tables.training import LabelledRecording, Validation
from services.api.common import files
from services.api.common.errors import UploadTooLarge
from services.api.models import forms, manifests, schemas
from services.api.models import resources as models
from services.api.models.errors import InvalidManifest
from services.api.models.forms import Form
from services.api.models.manifests import ClipRow
from services.api.models.trainings import visible_session_ids
from services.http import idempotency, quotas, responses
from services.http.access import owner, principal
from services.http.caller_errors import TooManyUnfinished
from services.http.errors import FieldError
from services.http.lists import Listed, Part, listing
from services.http.not_found import NotFound, or_404
from services.http.operations import operation
from services.http.request_errors import InvalidForm, UnsupportedUpload
from services.http.resource import Resource
from services.http.responses import answer


class SetForm(msgspec.Struct, kw_only=True):
    """A form with a labelled set, a model file, or both."""

    #: The file of an unregistered model. Required, unless the path names a model; then it is not
    #: allowed.
    model: bytes | None = None
    #: CSV with the label or the events of each recording.
    manifest: forms.Manifest | None = None
    #: The recordings that the manifest refers to by file name.
    clip: forms.Clips = []


class ValidationStart(Resource):
    """``POST /v1/validations`` validates a model file, ``POST /v1/models/{model_id}/validate`` a
    registered model. Both accept a labelled set.
    """

    @operation(
        scope="models:write",
        takes={falcon.MEDIA_MULTIPART: SetForm},
        bodiless=True,
        answer=schemas.ValidationReport,
        status=202,
        problems=(
            InvalidManifest,
            NotFound.of("model"),
            TooManyUnfinished,
            UnsupportedUpload,
            UploadTooLarge,
        ),
    )
    def on_post(
        self, req: falcon.Request, resp: falcon.Response, model_id: uuid.UUID | None = None
    ) -> None:
        """Validate a model. If a labelled set is sent, measure the model on it."""
        if model_id is not None:
            with self.deps.store.transaction() as tx:
                models.get_or_404(tx, model_id, owner=owner(req))
        validation_id = idempotency.new_id(req)
        if model_id is not None and not req.content_type:
            validation = self._add(req, validation_id, model_id=model_id)
        else:
            validation = self._receive(req, validation_id, model_id)
        self.deps.publisher.send(ValidateModel(validation_id=validation_id))
        _answer(resp, validation)

    def replay(self, req: falcon.Request, resp: falcon.Response, made_id: uuid.UUID) -> None:
        """Answer with the validation that an earlier attempt of this request created."""
        _answer(resp, fetch_view(self.deps.store, made_id, owner=owner(req)))

    def _receive(
        self, req: falcon.Request, validation_id: uuid.UUID, model_id: uuid.UUID | None
    ) -> schemas.ValidationReport:
        fields: tuple[str, ...] = ("manifest", forms.CLIP)
        with forms.received(
            req,
            blobs=self.deps.blobs,
            prefix=validation_prefix(validation_id),
            max_bytes=self.deps.settings.max_upload_bytes,
            fields=fields if model_id is not None else (*fields, forms.MODEL),
        ) as form:
            values = _labelled(form)
            if model_id is not None:
                values["model_id"] = model_id
            elif form.model is None:
                raise InvalidForm.of([FieldError(field=forms.MODEL, detail="is required")])
            else:
                values["file_key"] = form.model.key
        return self._add(req, validation_id, *form.keys(), **values)

    def _add(
        self,
        req: falcon.Request,
        validation_id: uuid.UUID,
        *keys: str,
        **values: Unpack[RequestedValidation],
    ) -> schemas.ValidationReport:
        with files.row_of(*keys, store=self.deps.store, blobs=self.deps.blobs) as tx:
            self.deps.quota.check_jobs(tx, principal(req).user_id, quotas.TRAININGS)
            recordings = values["labelled"]["recordings"] if "labelled" in values else []
            given = [each for each in recordings if each["session_id"] is not None]
            sessions = visible_session_ids(
                tx, req, (uuid.UUID(each["session_id"]) for each in given)
            )
            for each in given:
                each["session_id"] = str(sessions[uuid.UUID(each["session_id"])])
            row = model_queries.add_validation(
                tx,
                id=validation_id,
                user_id=principal(req).user_id,
                traceparent=tracing.current(),
                **values,
            )
            return schemas.ValidationReport.of(row)


class ValidationList(ValidationStart):
    """``/v1/validations``."""

    @listing(
        scope="sessions:read",
        query=schemas.JobQuery,
        answer_type=schemas.ValidationPage,
        orders=list_queries.VALIDATIONS,
    )
    def on_get(
        self, tx: Session, asked: schemas.JobQuery, part: Part, owner: uuid.UUID | None
    ) -> Listed:
        """List validations, newest first by default."""
        page = list_queries.jobs(
            tx, Validation, owner=owner, states=asked.state, created=asked.created, **part
        )
        return Listed(page, lambda row: schemas.ListedValidation.of(row[0]))


class ValidationItem(Resource):
    """``GET /v1/validations/{validation_id}``."""

    @operation(
        scope="sessions:read",
        answer=schemas.ValidationReport,
        also={304: None},
        problems=(NotFound.of("validation"),),
    )
    def on_get(self, req: falcon.Request, resp: falcon.Response, validation_id: uuid.UUID) -> None:
        """Return the state and progress of a validation and, once completed, its report."""
        responses.conditional(
            req, resp, fetch_view(self.deps.store, validation_id, owner=owner(req))
        )


def fetch_view(
    store: Store, validation_id: uuid.UUID, *, owner: uuid.UUID | None
) -> schemas.ValidationReport:
    """Return a validation as the API shows it to its owner; raises :class:`NotFound`."""
    with store.reading() as tx:
        row = model_queries.get_validation(tx, validation_id, owner=owner)
    return schemas.ValidationReport.of(or_404(row, "validation", validation_id))


def _answer(resp: falcon.Response, validation: schemas.ValidationReport) -> None:
    answer(resp, validation, status=202, location=f"/v1/validations/{validation.id}")


def _labelled(form: Form) -> RequestedValidation:
    """Return the labelled set of a form and its hash; empty if there is none."""
    if "manifest" not in form.texts:
        if form.clips:
            raise InvalidForm.of(
                [FieldError(field="manifest", detail="is required to label the clips")]
            )
        return {}
    rows = forms.labelled(form, manifests.parse_set)
    recordings: list[LabelledRecording] = []
    hashed: list[bytes] = []
    for row in rows:
        stored = form.clip(row.file) if row.session_id is None else None
        labels: LabelledRecording = (
            {"label": row.label, "start_s": row.start_s, "end_s": row.end_s}
            if isinstance(row, ClipRow)
            else {"events": row.events}
        )
        recordings.append(
            {
                "file": row.file,
                "session_id": None if row.session_id is None else str(row.session_id),
                "blob_key": stored.key if stored else None,
                **labels,
            }
        )
        # Hash the content, not names or keys, so that a set sent twice has the same hash.
        content = stored.sha256 if stored else str(row.session_id)
        hashed.append(msgspec.json.encode([content, labels]))
    kind = "clips" if isinstance(rows[0], ClipRow) else "events"
    return {
        "labelled": {"kind": kind, "recordings": recordings},
        "set_sha256": hashlib.sha256(b"\n".join([kind.encode(), *sorted(hashed)])).hexdigest(),
    }
