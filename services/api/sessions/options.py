"""What a recording may be posted with, as parameters of the query.

Everything is looked at before one byte of the recording is stored, as far as it can be known then.
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
from services.http.errors import FieldError, InvalidParameter, ModelNotFound, WebhookNotFound

Wanted = TypeVar("Wanted")

#: Characters of a name in the caller's metadata.
METADATA_KEY_CHARS = 64
#: Numbers in the caller's metadata come back as they were sent up to here: beyond, a program that
#: reads JSON may round them, and the database writes out all of their digits.
METADATA_NUMBER = 2.0**53

#: Zones that are there by name, but are another one on each machine, or none.
_NO_ZONES = frozenset({"localtime", "Factory"})

Metadata = dict[str, str | int | float | bool | None]


def read_metadata(text: str) -> Metadata:
    """A flat JSON object of a caller's; raises :class:`ValueError`, which tells what is wrong."""
    if len(text.encode()) > METADATA_BYTES:
        raise ValueError(f"it has at most {METADATA_BYTES} bytes")
    try:
        found = msgspec.json.decode(text, type=Metadata)
    except (msgspec.DecodeError, RecursionError):
        raise ValueError(
            "it must be a JSON object of texts, numbers, true, false and null"
        ) from None
    if len(found) > METADATA_KEYS:
        raise ValueError(f"it has at most {METADATA_KEYS} names")
    if not all(0 < len(name) <= METADATA_KEY_CHARS for name in found):
        raise ValueError(f"a name in it has 1 to {METADATA_KEY_CHARS} characters")
    for name, value in found.items():
        if "\x00" in name or (isinstance(value, str) and "\x00" in value):
            raise ValueError("it has the character U+0000, which no text may have")
        if isinstance(value, int | float) and abs(value) > METADATA_NUMBER:
            raise ValueError("a number in it lies between -2^53 and 2^53")
    return found


class RecordingOptions(msgspec.Struct, kw_only=True):
    """What one recording may be posted with, and each of many."""

    #: What is worked on first.
    priority: Literal["high", "normal", "low"] = "normal"
    #: dB to add to dB re full scale, so that levels come out in dB SPL.
    calibration_db: (
        Annotated[float, msgspec.Meta(ge=CALIBRATION_RANGE_DB[0], le=CALIBRATION_RANGE_DB[1])]
        | None
    ) = None
    #: The recording is that of a calibrator of this level, in dB SPL: find the calibration in it.
    calibration_tone_db: Literal[94, 114] | None = None
    #: Bands to measure beside the levels.
    bands: Literal["third_octave"] | None = None
    #: The model that hears it, instead of the one in use.
    model: uuid.UUID | None = None
    #: A webhook of the caller's that is told of its end; one that hears of all sessions is anyway.
    webhook: uuid.UUID | None = None
    #: ``TYPE:CONFIDENCE``, once for each noise type: less sure events of it are not reported.
    threshold: list[str] = []
    #: Noise types or groups: only events of these and of types below them are reported. All are,
    #: unless one is given.
    types: list[str] = []
    #: What becomes of the recording when its session ends: ``keep`` it, ``mute`` its speech, or
    #: ``discard_audio``.
    privacy: Literal["keep", "mute", "discard_audio"] = "keep"
    #: Where it was recorded, as an IANA name: ``Europe/Berlin``.
    time_zone: str | None = None
    #: The caller's own, as a flat JSON object.
    metadata: (
        Annotated[str, msgspec.Meta(extra_json_schema={"contentMediaType": "application/json"})]
        | None
    ) = None

    def __post_init__(self) -> None:
        """Look at what can be told from the parameters alone."""
        errors = list(self._errors())
        if errors:
            raise InvalidParameter.of(errors)

    def _errors(self) -> Iterator[FieldError]:
        if self.calibration_db is not None and self.calibration_tone_db is not None:
            yield FieldError(
                field="calibration_db",
                detail="it and 'calibration_tone_db' exclude each other: a calibrator's recording"
                " says what the calibration is",
            )
        if self.time_zone is not None and not is_zone(self.time_zone):
            yield FieldError(
                field="time_zone", detail="it must be an IANA name, such as Europe/Berlin"
            )
        for name, read in (("threshold", self.thresholds), ("metadata", self.own_metadata)):
            try:
                read()
            except ValueError as error:
                yield FieldError(field=name, detail=str(error))

    def thresholds(self) -> dict[str, float]:
        """The least confidences by noise type; raises :class:`ValueError`."""
        found: dict[str, float] = {}
        for given in self.threshold:
            noise_type, _, least = given.rpartition(":")
            try:
                confidence = msgspec.convert(least, _Confidence, strict=False)
            except msgspec.ValidationError:
                confidence = None
            if not noise_type or confidence is None:
                raise ValueError("it must be a noise type and a confidence from 0 to 1: rain:0.7")
            if noise_type in found:
                raise ValueError(f"there are two for '{noise_type}'")
            found[noise_type] = confidence
        return found

    def own_metadata(self) -> Metadata:
        """The caller's own; raises :class:`ValueError`."""
        return {} if self.metadata is None else read_metadata(self.metadata)

    def columns(
        self, store: Store, *, user_id: uuid.UUID, owner: uuid.UUID | None, can_mute: bool
    ) -> dict[str, Any]:
        """What of the row of a user's session they say.

        ``can_mute`` says whether the installation uses a backbone, which finds speech.

        Raises
        ------
        ModelNotFound, WebhookNotFound
            Also if it is somebody else's.
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
            _check_theirs(self.webhook, store, user_id=user_id)
        return {
            "priority": PRIORITIES.index(self.priority),
            "calibration_db": self.calibration_db,
            "calibration_tone_db": self.calibration_tone_db,
            "bands": self.bands,
            # Names are of the model that they were compared with: whatever is put to use until a
            # worker takes the recording up, this one hears it.
            "model_id": None if model is None else model.id,
            "webhook_id": self.webhook,
            "thresholds": thresholds,
            "types": types,
            "privacy": self.privacy,
            "time_zone": self.time_zone,
            "user_metadata": self.own_metadata(),
        }

    def _model(self, store: Store, *, owner: uuid.UUID | None) -> NoiseModel | None:
        """The model that was asked for, or the one in use; None before the first worker ran."""
        with store.transaction() as db:
            if self.model is None:
                return model_queries.model_in_use(db)
            found = model_queries.get_model(db, self.model, owner=owner)
        if found is None:
            raise ModelNotFound(f"no model has the id {self.model}")
        return found


class SessionOptions(RecordingOptions, kw_only=True):
    """What a recording may be posted with."""

    #: What the recording is called; of a form the file's own name, unless this is given.
    file_name: str = ""
    #: When it began, with the offset from UTC: ``2026-11-28T09:30:00+01:00``.
    recorded_at: Annotated[datetime, msgspec.Meta(tz=True)] | None = None

    def _errors(self) -> Iterator[FieldError]:
        yield from super()._errors()
        if self.recorded_at is not None and not RECORDED_FROM <= self.recorded_at < RECORDED_TO:
            yield FieldError(
                field="recorded_at",
                detail=f"it must lie in the years {RECORDED_FROM.year} to {RECORDED_TO.year - 1}",
            )

    def columns(
        self, store: Store, *, user_id: uuid.UUID, owner: uuid.UUID | None, can_mute: bool
    ) -> dict[str, Any]:
        columns = super().columns(store, user_id=user_id, owner=owner, can_mute=can_mute)
        return {"recorded_at": self.recorded_at, **columns}


class BatchOptions(RecordingOptions, kw_only=True):
    """What each recording of a batch is posted with, and the batch itself.

    Recordings of a batch did not begin together, and bear names of their own.
    """

    #: The id of the batch, chosen by the caller to find it again if the answer does not arrive.
    batch_id: uuid.UUID | None = None


#: The parameters. A form may not bear them as fields: the file could come before them.
NAMES = frozenset(
    field.encode_name
    for kind in (SessionOptions, BatchOptions)
    for field in msgspec.structs.fields(kind)
)

_CANNOT_MUTE = (
    "this installation cannot mute speech: its setting CLAMOR_BACKBONE_URL is off, and the backbone"
    " finds the speech. 'discard_audio' works without it"
)
_Confidence = Annotated[float, msgspec.Meta(ge=0, le=1)]


def _check_known(names: Mapping[str, Iterable[str]], model: NoiseModel) -> None:
    """Refuse names of noise types, given by parameter, that the model cannot report."""
    classes = noise_types.of_model(model.header)
    errors = [
        FieldError(
            field=field,
            detail=f"{unknown}: use a name of GET /v1/noise-types, or one that the model"
            f" {model.name} {model.version} reports:"
            f" {', '.join(sorted(noise_types.reported(classes)))}",
        )
        for field, given in names.items()
        if (unknown := noise_types.unknown(given, classes)) is not None
    ]
    if errors:
        raise InvalidParameter.of(errors)


def _check_theirs(webhook_id: uuid.UUID, store: Store, *, user_id: uuid.UUID) -> None:
    """Refuse a webhook that would never be told: an administrator's is told of nobody else."""
    with store.reading() as db:
        if webhook_queries.get_webhook(db, webhook_id, owner=user_id) is None:
            raise WebhookNotFound(f"you have no webhook with the id {webhook_id}")


def is_zone(name: str) -> bool:
    """Whether this is the IANA name of a time zone."""
    return name in _zones()


@functools.cache
def _zones() -> frozenset[str]:
    """The names of all time zones; to find them takes a few hundredths of a second."""
    return frozenset(zoneinfo.available_timezones()) - _NO_ZONES
