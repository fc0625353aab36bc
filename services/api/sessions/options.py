"""The options of a recording, as query parameters.

They are checked as far as possible before any byte of the recording is stored.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Annotated, Literal, TypeVar

import msgspec

from actors.facts.channel_rules import ENERGY_MEAN, ChannelRule
from db import typed
from db.tables.sessions import (
    CALIBRATION_RANGE_DB,
    METADATA_BYTES,
    METADATA_KEYS,
    NOISE_FLOOR_RANGE_DB,
    RECORDED_FROM,
    RECORDED_TO,
)
from services.api.common.parameters import Confidence, Time, is_zone
from services.http.errors import FieldError
from services.http.request_errors import InvalidParameter

Wanted = TypeVar("Wanted")

#: Length of a name in the caller's metadata.
METADATA_KEY_CHARS = 64
#: Largest absolute value of a number in the caller's metadata that is sure to come back unchanged:
#: beyond it, JSON parsers may round, and the database writes out all digits.
METADATA_NUMBER = 2.0**53

Metadata = dict[str, str | int | float | bool | None]


def read_metadata(text: str) -> Metadata:
    """Parse a flat JSON object of the caller's; raises :class:`ValueError` with the reason."""
    if len(text.encode()) > METADATA_BYTES:
        raise ValueError(f"must have at most {METADATA_BYTES} bytes")
    try:
        found = typed.decode(text, Metadata)
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
    #: The A-weighted self-noise of the instrument in dB SPL, with a calibration: levels that it
    #: raises by more than 0.8 dB are marked as under-range.
    noise_floor_db: (
        Annotated[float, msgspec.Meta(ge=NOISE_FLOOR_RANGE_DB[0], le=NOISE_FLOOR_RANGE_DB[1])]
        | None
    ) = None
    #: The channels to measure and to analyse: ``energy_mean`` of those that are not silent, the
    #: ``loudest``, or one by its number, counted from 1.
    channel: ChannelRule | Annotated[int, msgspec.Meta(ge=1, le=64)] = ENERGY_MEAN
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
    #: Time zone of the recording, as an IANA name such as ``Europe/Berlin``; also of a time that
    #: its file states without an offset from UTC. Default: such a time is taken as UTC.
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
        is_calibrated = self.calibration_db is not None or self.calibration_tone_db is not None
        if self.noise_floor_db is not None and not is_calibrated:
            yield FieldError(
                field="noise_floor_db",
                detail="needs 'calibration_db' or 'calibration_tone_db', since it is in dB SPL",
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
                confidence = typed.convert(least, Confidence, strict=False)
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


class SessionOptions(RecordingOptions, kw_only=True):
    """Options of a recording."""

    #: Name of the recording. Default: for a form, the name of the file.
    file_name: str = ""
    #: Start of the recording, with the offset from UTC: ``2026-11-28T09:30:00+01:00``. Default: as
    #: its metadata or its name state it.
    recorded_at: Time | None = None

    def _errors(self) -> Iterator[FieldError]:
        yield from super()._errors()
        if self.recorded_at is not None and not RECORDED_FROM <= self.recorded_at < RECORDED_TO:
            yield FieldError(
                field="recorded_at",
                detail=f"must be in the years {RECORDED_FROM.year} to {RECORDED_TO.year - 1}",
            )


class BatchOptions(RecordingOptions, kw_only=True):
    """Options of a batch and of each of its recordings.

    There is no file name, since each file has its own, and no start time, since it differs between
    recordings: a JSON body lists those of its keys as ``recorded_at``.
    """

    #: The ID of the batch, chosen by the caller to find it again if the answer is lost.
    batch_id: uuid.UUID | None = None


#: The parameters. They may not be form fields: the file could precede them.
NAMES = frozenset(
    field.encode_name
    for kind in (SessionOptions, BatchOptions)
    for field in msgspec.structs.fields(kind)
)
