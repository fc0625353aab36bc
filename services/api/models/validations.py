"""Validations: a model, or the file of one, is looked at closely."""

from __future__ import annotations

import hashlib
import uuid
from typing import Any

import falcon
import msgspec

from actors.messaging.broker import Publisher
from actors.messaging.messages import ValidateModel
from actors.observability import tracing
from db.blobs import Blobs, validation_prefix
from db.queries import list_queries, model_queries
from db.store import Store
from db.tables.training import Validation
from services.api.models import forms, manifests
from services.api.models import resources as models
from services.api.models.forms import Form
from services.api.models.manifests import ClipRow, ManifestError
from services.api.models.trainings import check_files, theirs
from services.api.sessions import list_schemas, schemas, uploads
from services.http import cursors, idempotency, responses
from services.http.access import owner, principal
from services.http.errors import (
    FieldError,
    InvalidForm,
    InvalidManifest,
    ModelNotFound,
    UnsupportedUpload,
    UploadTooLarge,
    ValidationNotFound,
)
from services.http.operations import operation, query_of
from services.http.responses import answer


class SetForm(msgspec.Struct, kw_only=True):
    """A form that bears a labelled set, or the file of a model, or both."""

    #: The file of a model that is not registered. Needed unless the path names a model, and not
    #: taken then.
    model: bytes | None = None
    #: CSV that says what is to be heard in which recording.
    manifest: forms.Manifest | None = None
    #: The recordings that the manifest names, by their file names.
    clip: forms.Clips = []


class ValidationStart:
    """``POST /v1/validations`` takes the file of a model, ``POST /v1/models/{model_id}/validate``
    speaks of one that is registered; either may bear a labelled set."""

    def __init__(
        self, store: Store, blobs: Blobs, publisher: Publisher, *, max_upload_bytes: int
    ) -> None:
        self._store = store
        self._blobs = blobs
        self._publisher = publisher
        self._max_upload_bytes = max_upload_bytes

    @operation(
        scope="models:write",
        takes={falcon.MEDIA_MULTIPART: SetForm},
        bodiless=True,
        answer=schemas.ValidationReport,
        status=202,
        problems=(
            InvalidForm, InvalidManifest, ModelNotFound, UnsupportedUpload, UploadTooLarge,
        ),
    )  # fmt: skip
    def on_post(
        self, req: falcon.Request, resp: falcon.Response, model_id: uuid.UUID | None = None
    ) -> None:
        """Look closely at a model, and measure it on a labelled set where one is sent."""
        if model_id is not None:
            with self._store.transaction() as db:
                models.found(db, model_id, owner=owner(req))
        validation_id = idempotency.new_id(req)
        if model_id is not None and not req.content_type:
            validation = self._add(req, validation_id, model_id=model_id)
        else:
            validation = self._receive(req, validation_id, model_id)
        self._publisher.send(ValidateModel(validation_id=validation_id))
        _answer(resp, validation)

    def made(self, req: falcon.Request, resp: falcon.Response, made_id: uuid.UUID) -> bool:
        """Answer with the validation that an earlier attempt made."""
        try:
            validation = load(self._store, made_id, owner=owner(req))
        except ValidationNotFound:
            return False
        _answer(resp, validation)
        return True

    def _receive(
        self, req: falcon.Request, validation_id: uuid.UUID, model_id: uuid.UUID | None
    ) -> schemas.ValidationReport:
        fields: tuple[str, ...] = ("manifest", forms.CLIP)
        with forms.received(
            req,
            blobs=self._blobs,
            prefix=validation_prefix(validation_id),
            max_bytes=self._max_upload_bytes,
            fields=fields if model_id is not None else (*fields, forms.MODEL),
        ) as form:
            values = _labelled(form)
            if model_id is not None:
                values["model_id"] = model_id
            elif form.model is None:
                raise InvalidForm.of(
                    [FieldError(field=forms.MODEL, detail="the form has no such field")]
                )
            else:
                values["file_key"] = form.model.key
        return self._add(req, validation_id, *form.keys(), **values)

    def _add(
        self, req: falcon.Request, validation_id: uuid.UUID, *keys: str, **values: Any
    ) -> schemas.ValidationReport:
        with uploads.row_of(*keys, store=self._store, blobs=self._blobs) as db:
            recordings = (values.get("labelled") or {}).get("recordings", ())
            sessions = theirs(db, req, (each["session_id"] for each in recordings))
            for each in recordings:
                session_id = sessions[each["session_id"]]
                each["session_id"] = str(session_id) if session_id else None
            row = model_queries.add_validation(
                db,
                id=validation_id,
                user_id=principal(req).user_id,
                traceparent=tracing.current(),
                **values,
            )
            return schemas.ValidationReport.of(row)


class ValidationList(ValidationStart):
    """``/v1/validations``."""

    @operation(
        scope="sessions:read", query=list_schemas.JobQuery, answer=list_schemas.ValidationPage
    )
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """The validations: the newest first, unless another order is asked for."""
        asked = query_of(req, list_schemas.JobQuery)
        order = list_queries.VALIDATIONS[asked.sort]
        after = cursors.after(req, asked, order)
        with self._store.reading() as db:
            page = list_queries.jobs(
                db, Validation, owner=owner(req), order=order, after=after, limit=asked.limit,
                states=asked.state, created=asked.created,
            )  # fmt: skip
        items = [list_schemas.ListedValidation.of(row[0]) for row in page.rows]
        cursor = cursors.following(req, resp, asked, page.next)
        answer(resp, list_schemas.ValidationPage(items=items, next_cursor=cursor))


class ValidationItem:
    """``GET /v1/validations/{validation_id}``."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @operation(
        scope="sessions:read",
        answer=schemas.ValidationReport,
        also={304: None},
        problems=(ValidationNotFound,),
    )
    def on_get(self, req: falcon.Request, resp: falcon.Response, validation_id: uuid.UUID) -> None:
        """State, percent, stage, and the report at the end."""
        responses.conditional(req, resp, load(self._store, validation_id, owner=owner(req)))

    on_head = on_get


def load(
    store: Store, validation_id: uuid.UUID, *, owner: uuid.UUID | None
) -> schemas.ValidationReport:
    """A validation as the API shows it to an owner; raises :class:`ValidationNotFound`."""
    with store.transaction() as db:
        row = model_queries.get_validation(db, validation_id, owner=owner)
        if row is None:
            raise ValidationNotFound(f"no validation has the id {validation_id}")
        return schemas.ValidationReport.of(row)


def _answer(resp: falcon.Response, validation: schemas.ValidationReport) -> None:
    resp.location = f"/v1/validations/{validation.id}"
    answer(resp, validation, status=202)


def _labelled(form: Form) -> dict[str, Any]:
    """The labelled set of a form, and its hash; nothing if there is none."""
    if "manifest" not in form.texts:
        if form.clips:
            raise InvalidForm.of(
                [FieldError(field="manifest", detail="the form has none, which would label clips")]
            )
        return {}
    try:
        rows = manifests.parse_set(form.texts["manifest"])
    except ManifestError as error:
        raise InvalidManifest.of(error.errors, detail=str(error)) from None
    check_files(manifests.files(rows), form)
    recordings: list[dict[str, Any]] = []
    hashed: list[bytes] = []
    for row in rows:
        stored = form.clip(row.file) if row.session_id is None else None
        labels: dict[str, Any] = (
            {"label": row.label, "start_s": row.start_s, "end_s": row.end_s}
            if isinstance(row, ClipRow)
            else {"events": row.events}
        )
        recordings.append(
            {
                "file": row.file,
                "session_id": row.session_id,
                "blob_key": stored.key if stored else None,
                **labels,
            }
        )
        # By content and not by name or key: the same set sent twice is the same set.
        content = stored.sha256 if stored else str(row.session_id)
        hashed.append(msgspec.json.encode([content, labels]))
    kind = "clips" if isinstance(rows[0], ClipRow) else "events"
    return {
        "labelled": {"kind": kind, "recordings": recordings},
        "set_sha256": hashlib.sha256(b"\n".join([kind.encode(), *sorted(hashed)])).hexdigest(),
    }
