"""The options of a recording, as query parameters.

They are checked as far as possible before any byte of the recording is stored.
"""

from __future__ import annotations

import functools
import uuid
import zoneinfo
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Annotated, Any, Literal, TypeVar

import msgspec

from actors.facts import noise_types
from db.queries import model_queries, webhook_queries
from db.store import Store
from db.tables.models import NoiseModel
from db.tables.sessions import (
    CALIBRATION_RANGE_DB,
    METADATA_BYTES,
    METADATA_KEYS,
    MUTE,
    PRIORITIES,
    RECORDED_FROM,
    RECORDED_TO,
)
from services.http.errors import FieldError
from services.http.not_found import NotFound, or_404
from services.http.request_errors import InvalidParameter

Wanted = TypeVar("Wanted")

#: Length of a name in the caller's metadata.
METADATA_KEY_CHARS = 64
#: Largest absolute value of a number in the caller's metadata that is sure to come back unchanged:
#: beyond it, JSON parsers may round, and the database writes out all digits.
METADATA_NUMBER = 2.0**53

#: Names that are not time zones, or stand for a different one on each machine.
_NO_ZONES = frozenset({"localtime", "Factory"})

Metadata = dict[str, str | int | float | bool | None]


def read_metadata(text: str) -> Metadata:
    """Parse a flat JSON object of the caller's; raises :class:`ValueError` with the reason."""
    if len(text.encode()) > METADATA_BYTES:
        raise ValueError(f"must have at most {METADATA_BYTES} bytes")
    try:
        found = msgspec.json.decode(text, type=Metadata)
    except (msgspec.DecodeError, RecursionError):
        raise ValueError(
            "must be a flat JSON object of strings, numbers, true, false and null"
        ) from None
    if len(found) > METADATA_KEYS:
        raise ValueError(f"must have at most {METADATA_KEYS} keys")
    if not all(0 < len(name) <= METADATA_KEY_CHARS for name in found):
        raise ValueError(f"each key must have 1 to {METADATA_KEY_CHARS} characters")
    for name, value in found.items():
        if "\x00" in name or (isinstance(value, str) and "\x00" in value):
            raise ValueError("must not contain the character U+0000")
        if isinstance(value, int | float) and abs(value) > METADATA_NUMBER:
            raise ValueError("each number must be between -2^53 and 2^53")
    return found


class RecordingOptions(msgspec.Struct, kw_only=True):
    """Options of one recording, or of each recording of a batch."""

    #: Sessions with a higher priority are processed first.
    priority: Literal["high", "normal", "low"] = "normal"
    #: Calibration: dB to add to levels re full scale to obtain dB SPL.
    calibration_db: (
        Annotated[float, msgspec.Meta(ge=CALIBRATION_RANGE_DB[0], le=CALIBRATION_RANGE_DB[1])]
        | None
    ) = None
    #: The recording is of a calibrator with this level in dB SPL: derive the calibration from it.
    calibration_tone_db: Literal[94, 114] | None = None
    #: Frequency bands to measure in addition to the levels.
    bands: Literal["third_octave"] | None = None
    #: The model to use. Default: the model in use.
    model: uuid.UUID | None = None
    #: A webhook of the caller's to notify when the session ends. Webhooks for all sessions are
    #: notified anyway.
    webhook: uuid.UUID | None = None
    #: ``TYPE:CONFIDENCE``, once per noise type: detections with less confidence are not reported.
    threshold: list[str] = []
    #: Noise types or groups: only detections of these and of types below them are reported.
    #: Default: all.
    types: list[str] = []
    #: What happens to the recording when the session ends: ``keep`` it, ``mute`` its speech, or
    #: ``discard_audio``.
    privacy: Literal["keep", "mute", "discard_audio"] = "keep"
    #: Time zone of the recording, as an IANA name such as ``Europe/Berlin``.
    time_zone: str | None = None
    #: Metadata to store with the session, as a flat JSON object.
    metadata: (
        Annotated[str, msgspec.Meta(extra_json_schema={"contentMediaType": "application/json"})]
        | None
    ) = None

    def __post_init__(self) -> None:
        """Check what can be checked from the parameters alone."""
        errors = list(self._errors())
        if errors:
            raise InvalidParameter.of(errors)

    def _errors(self) -> Iterator[FieldError]:
        if self.calibration_db is not None and self.calibration_tone_db is not None:
            yield FieldError(
                field="calibration_db",
                detail="cannot be combined with 'calibration_tone_db', which takes the calibration"
                " from the recording",
            )
        if self.time_zone is not None and not is_zone(self.time_zone):
            yield FieldError(
                field="time_zone", detail="must be an IANA name, such as Europe/Berlin"
            )
        for name, read in (("threshold", self.thresholds), ("metadata", self.own_metadata)):
            try:
                read()
            except ValueError as error:
                yield FieldError(field=name, detail=str(error))

    def thresholds(self) -> dict[str, float]:
        """Return the minimum confidences by noise type; raises :class:`ValueError`."""
        found: dict[str, float] = {}
        for given in self.threshold:
            noise_type, _, least = given.rpartition(":")
            try:
                confidence = msgspec.convert(least, _Confidence, strict=False)
            except msgspec.ValidationError:
                confidence = None
            if not noise_type or confidence is None:
                raise ValueError(
                    "must be a noise type and a confidence from 0 to 1, such as rain:0.7"
                )
            if noise_type in found:
                raise ValueError(f"'{noise_type}' must be given only once")
            found[noise_type] = confidence
        return found

    def own_metadata(self) -> Metadata:
        """Return the metadata; raises :class:`ValueError`."""
        return {} if self.metadata is None else read_metadata(self.metadata)

    def columns(
        self, store: Store, *, user_id: uuid.UUID, owner: uuid.UUID | None, can_mute: bool
    ) -> dict[str, Any]:
        """Return the columns of the session's row that the options set.

        ``can_mute`` says whether the installation uses a backbone, which finds speech.

        Raises
        ------
        NotFound
            Also for one of another user.
        InvalidParameter
            If a threshold or a type has a name that is neither in the table of noise types nor
            reported by the model, or if speech cannot be muted.
        """
        if self.privacy == MUTE and not can_mute:
            raise InvalidParameter.of([FieldError(field="privacy", detail=_CANNOT_MUTE)])
        thresholds, types = self.thresholds(), list(dict.fromkeys(self.types))
        model = self._model(store, owner=owner) if self.model or thresholds or types else None
        if model is not None:
            _check_known({"threshold": thresholds, "types": types}, model)
        if self.webhook is not None:
            _check_own_webhook(self.webhook, store, user_id=user_id)
        return {
            "priority": PRIORITIES.index(self.priority),
            "calibration_db": self.calibration_db,
            "calibration_tone_db": self.calibration_tone_db,
            "bands": self.bands,
            # Pin the model that the names were checked against, even if another one is promoted
            # before a worker starts the session.
            "model_id": None if model is None else model.id,
            "webhook_id": self.webhook,
            "thresholds": thresholds,
            "types": types,
            "privacy": self.privacy,
            "time_zone": self.time_zone,
            "user_metadata": self.own_metadata(),
        }

    def _model(self, store: Store, *, owner: uuid.UUID | None) -> NoiseModel | None:
        """Return the requested model, or the one in use; None before the first worker ran."""
        with store.transaction() as db:
            if self.model is None:
                return model_queries.model_in_use(db)
            return or_404(model_queries.get_model(db, self.model, owner=owner), "model", self.model)


class SessionOptions(RecordingOptions, kw_only=True):
    """Options of a recording."""

    #: Name of the recording. Default: for a form, the name of the file.
    file_name: str = ""
    #: Start of the recording, with the offset from UTC: ``2026-11-28T09:30:00+01:00``.
    recorded_at: Annotated[datetime, msgspec.Meta(tz=True)] | None = None

    def _errors(self) -> Iterator[FieldError]:
        yield from super()._errors()
        if self.recorded_at is not None and not RECORDED_FROM <= self.recorded_at < RECORDED_TO:
            yield FieldError(
                field="recorded_at",
                detail=f"must be in the years {RECORDED_FROM.year} to {RECORDED_TO.year - 1}",
            )

    def columns(
        self, store: Store, *, user_id: uuid.UUID, owner: uuid.UUID | None, can_mute: bool
    ) -> dict[str, Any]:
        columns = super().columns(store, user_id=user_id, owner=owner, can_mute=can_mute)
        return {"recorded_at": self.recorded_at, **columns}


class BatchOptions(RecordingOptions, kw_only=True):
    """Options of a batch and of each of its recordings.

    There is no file name or start time: they differ between recordings.
    """

    #: The ID of the batch, chosen by the caller to find it again if the answer is lost.
    batch_id: uuid.UUID | None = None


#: The parameters. They may not be form fields: the file could precede them.
NAMES = frozenset(
    field.encode_name
    for kind in (SessionOptions, BatchOptions)
    for field in msgspec.structs.fields(kind)
)

_CANNOT_MUTE = (
    "this installation cannot mute speech: that requires a backbone, and CLAMOR_BACKBONE_URL is"
    " off. Use 'discard_audio' instead"
)
_Confidence = Annotated[float, msgspec.Meta(ge=0, le=1)]


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
    with store.reading() as db:
        if webhook_queries.get_webhook(db, webhook_id, owner=user_id) is None:
            raise NotFound.of("webhook")(f"you have no webhook with the ID {webhook_id}")


def is_zone(name: str) -> bool:
    """Return whether ``name`` is the IANA name of a time zone."""
    return name in _zones()


@functools.cache
def _zones() -> frozenset[str]:
    """Return the names of all time zones; finding them takes a few hundredths of a second."""
    return frozenset(zoneinfo.available_timezones()) - _NO_ZONES
