"""Check the options of a request against the database, and return them as columns."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping

from actors.facts import noise_types
from db.queries import model_queries, webhook_queries
from db.queries.session_queries import OptionColumns, RequestedColumns
from db.store import Store
from db.tables.models import NoiseModel
from db.tables.sessions import MUTE, PRIORITIES
from services.api.sessions.options import RecordingOptions, SessionOptions
from services.http.errors import FieldError
from services.http.not_found import NotFound, or_404
from services.http.request_errors import InvalidParameter

_CANNOT_MUTE = (
    "this installation cannot mute speech: that requires a backbone, and CLAMOR_BACKBONE_URL is"
    " off. Use 'discard_audio' instead"
)


def session_columns(
    asked: SessionOptions,
    store: Store,
    *,
    user_id: uuid.UUID,
    owner: uuid.UUID | None,
    can_mute: bool,
) -> RequestedColumns:
    """Return the columns of a session that its request sets; raises as `option_columns` does."""
    return {
        **option_columns(asked, store, user_id=user_id, owner=owner, can_mute=can_mute),
        "priority": PRIORITIES.index(asked.priority),
        "recorded_at": asked.recorded_at,
    }


def option_columns(
    asked: RecordingOptions,
    store: Store,
    *,
    user_id: uuid.UUID,
    owner: uuid.UUID | None,
    can_mute: bool,
) -> OptionColumns:
    """Return the columns that the options of a session, or of each session of a batch, set.

    ``can_mute`` says whether the installation uses a backbone, which finds speech.

    Raises
    ------
    NotFound
        If the model or the webhook does not exist or belongs to another user.
    InvalidParameter
        If a threshold or a type has a name that is neither in the table of noise types nor
        reported by the model, or if speech cannot be muted.
    """
    if asked.privacy == MUTE and not can_mute:
        raise InvalidParameter.of([FieldError(field="privacy", detail=_CANNOT_MUTE)])
    thresholds, types = asked.thresholds(), list(dict.fromkeys(asked.types))
    model = _model(store, asked, owner=owner) if asked.model or thresholds or types else None
    if model is not None:
        _check_known({"threshold": thresholds, "types": types}, model)
    if asked.webhook is not None:
        _check_own_webhook(asked.webhook, store, user_id=user_id)
    return OptionColumns(
        calibration_db=asked.calibration_db,
        calibration_tone_db=asked.calibration_tone_db,
        bands=asked.bands,
        noise_floor_db=asked.noise_floor_db,
        channel=str(asked.channel),
        # Pin the model that the names were checked against, even if another one is promoted before
        # a worker starts the session.
        model_id=None if model is None else model.id,
        webhook_id=asked.webhook,
        thresholds=thresholds,
        types=types,
        privacy=asked.privacy,
        time_zone=asked.time_zone,
        user_metadata=asked.own_metadata(),
    )


def _model(store: Store, asked: RecordingOptions, *, owner: uuid.UUID | None) -> NoiseModel | None:
    """Return the requested model, or the one in use; None before the first worker ran."""
    with store.transaction() as tx:
        if asked.model is None:
            return model_queries.model_in_use(tx)
        return or_404(model_queries.get_model(tx, asked.model, owner=owner), "model", asked.model)


def _check_known(names: Mapping[str, Iterable[str]], model: NoiseModel) -> None:
    """Refuse names of noise types, given by parameter, that the model cannot report."""
    classes = noise_types.of_model(model.header)
    errors = [
        FieldError(
            field=field,
            detail=f"{unknown}: use a name from GET /v1/noise-types, or one that the model"
            f" {model.name} {model.version} reports:"
            f" {', '.join(sorted(noise_types.reported(classes)))}",
        )
        for field, given in names.items()
        if (unknown := noise_types.unknown(given, classes)) is not None
    ]
    if errors:
        raise InvalidParameter.of(errors)


def _check_own_webhook(webhook_id: uuid.UUID, store: Store, *, user_id: uuid.UUID) -> None:
    """Refuse a webhook of another user, to administrators too: it would never be notified."""
    with store.reading() as tx:
        if webhook_queries.get_webhook(tx, webhook_id, owner=user_id) is None:
            raise NotFound.of("webhook")(f"you have no webhook with the ID {webhook_id}")
