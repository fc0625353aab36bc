"""Trainings: a worker trains a model on labelled recordings."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable
from typing import Annotated

import falcon
import msgspec
from sqlalchemy.orm import Session

from actors.messaging.messages import TrainNoiseClassifier
from actors.observability import tracing
from db.blobs.keys import training_prefix
from db.queries import list_queries, model_queries, session_queries
from db.queries.model_queries import NewTrainingClipRow
from db.store import Store
from db.tables.sessions import AudioSession
from db.tables.training import TrainingJob
from services.api.common import files
from services.api.models import forms, manifests, schemas
from services.api.models.errors import InvalidOptions
from services.api.models.forms import Form
from services.http import idempotency, quotas, responses
from services.http.access import owner, principal
from services.http.deps import Deps
from services.http.errors import FieldError
from services.http.lists import Listed, Part, listing
from services.http.not_found import NotFound, or_404
from services.http.operations import MOST_BODY_BYTES, json_of, operation
from services.http.request_errors import InvalidForm
from services.http.resource import Resource

#: Default name of a model.
DEFAULT_NAME = "noise-classifier"
#: Names of shipped models begin like this, in any case.
RESERVED = "clamor"
MOST_SEED = 2**31 - 1
#: No session has this id.
NOWHERE = uuid.UUID(int=0)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


Name = Annotated[str, msgspec.Meta(max_length=64)]


class Options(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Options of a training."""

    name: Name = DEFAULT_NAME
    #: Null for the algorithm that the workers choose.
    algorithm: Name | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for field in ("name", "algorithm"):
            value = getattr(self, field)
            if value is not None and not _NAME.fullmatch(value):
                raise ValueError(f"{field} must be up to 64 letters, digits, '-', '_' or '.'")
        if self.name.lower().startswith(RESERVED):
            raise ValueError(f"name must not begin with '{RESERVED}': shipped models are named so")
        if not 0 <= self.seed <= MOST_SEED:
            raise ValueError(f"seed must be between 0 and {MOST_SEED}")


class ClipsForm(msgspec.Struct, kw_only=True):
    """A form with labelled recordings."""

    #: JSON object with ``name``, ``algorithm`` and ``seed``, all optional.
    options: Annotated[str, msgspec.Meta(max_length=MOST_BODY_BYTES)] = "{}"
    #: CSV with the label of each clip.
    manifest: forms.Manifest
    #: The recordings that the manifest refers to by file name.
    clip: forms.Clips = []


def start(req: falcon.Request, deps: Deps) -> schemas.Training:
    """Store the clips of a form and the job, and then notify the workers."""
    job_id = idempotency.new_id(req)
    with forms.received(
        req,
        blobs=deps.blobs,
        prefix=training_prefix(job_id),
        max_bytes=deps.settings.max_upload_bytes,
        fields=("options", "manifest", forms.CLIP),
    ) as form:
        given = form.texts.get("options")
        options = _options(b"{}" if given is None else given.read(MOST_BODY_BYTES + 1))
        clips = _clips(form)
    with files.row_of(*form.keys(), store=deps.store, blobs=deps.blobs) as tx:
        deps.quota.check_jobs(tx, principal(req).user_id, quotas.TRAININGS)
        sessions = visible_session_ids(tx, req, (clip["session_id"] for clip in clips))
        for clip in clips:
            clip["session_id"] = sessions[clip["session_id"]]
        job = model_queries.add_training(
            tx,
            clips,
            id=job_id,
            user_id=principal(req).user_id,
            traceparent=tracing.current(),
            name=options.name,
            algorithm=options.algorithm,
            seed=options.seed,
        )
        training = schemas.Training.of(job, n_clips=len(clips), refused=())
    deps.publisher.send(TrainNoiseClassifier(job_id=job_id))
    return training


class TrainingList(Resource):
    """``GET /v1/trainings``; ``POST /v1/models`` makes one."""

    @listing(
        scope="sessions:read",
        query=schemas.JobQuery,
        answer_type=schemas.TrainingPage,
        orders=list_queries.TRAININGS,
    )
    def on_get(
        self, tx: Session, asked: schemas.JobQuery, part: Part, owner: uuid.UUID | None
    ) -> Listed:
        """List trainings, newest first by default."""
        page = list_queries.jobs(
            tx, TrainingJob, owner=owner, states=asked.state, created=asked.created, **part
        )
        return Listed(page, lambda row: schemas.ListedTraining.of(row[0]))


class TrainingItem(Resource):
    """``GET /v1/trainings/{job_id}``."""

    @operation(
        scope="sessions:read",
        answer=schemas.Training,
        also={304: None},
        problems=(NotFound.of("training"),),
    )
    def on_get(self, req: falcon.Request, resp: falcon.Response, job_id: uuid.UUID) -> None:
        """Return the state and progress of a training, the refused clips with reasons and, once
        completed, the model.
        """
        responses.conditional(req, resp, fetch_view(self.deps.store, job_id, owner=owner(req)))


def fetch_view(store: Store, job_id: uuid.UUID, *, owner: uuid.UUID | None) -> schemas.Training:
    """Return a training as the API shows it to its owner; raises :class:`NotFound`."""
    with store.transaction() as tx:
        job = or_404(model_queries.get_training(tx, job_id, owner=owner), "training", job_id)
        return schemas.Training.of(
            job,
            n_clips=model_queries.count_clips(tx, job_id),
            refused=model_queries.refused_clips(tx, job_id),
            model=None if job.model_id is None else model_queries.get_model(tx, job.model_id),
        )


def _options(data: bytes) -> Options:
    """Parse the options of a form; raises :class:`InvalidOptions`."""
    if len(data) > MOST_BODY_BYTES:
        raise InvalidOptions.of(
            [FieldError(field="", detail=f"must have at most {MOST_BODY_BYTES} bytes")]
        )
    return json_of(data, Options, refusal=InvalidOptions)


def visible_session_ids(
    tx: Session, req: falcon.Request, session_ids: Iterable[uuid.UUID | None]
) -> dict[uuid.UUID | None, uuid.UUID | None]:
    """Map the session IDs of a manifest to those of the caller; all others map to `NOWHERE`.

    Users may only train on their own sessions; foreign and missing IDs are indistinguishable.
    """
    named = set(session_ids)
    known = session_queries.known_ids(
        tx,
        AudioSession.id,
        filter(None, named),
        where=session_queries.is_of(AudioSession, owner(req)),
    )
    return {each: each if each is None or each in known else NOWHERE for each in named}


def _clips(form: Form) -> list[NewTrainingClipRow]:
    """Return the rows of the clips. A file that was not sent has no key; the worker reports it."""
    if "manifest" not in form.texts:
        raise InvalidForm.of([FieldError(field="manifest", detail="is required")])
    rows = forms.labelled(form, manifests.parse_clips)
    return [
        {
            "file_name": row.file,
            "label": row.label,
            "source": row.source,
            "start_s": row.start_s,
            "end_s": row.end_s,
            "session_id": row.session_id,
            "blob_key": stored.key if stored else None,
        }
        for row in rows
        for stored in [form.clip(row.file) if row.session_id is None else None]
    ]
