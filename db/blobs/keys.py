"""The keys of blobs.

They are made from identifiers; no input of a client becomes part of one. Clients may only name keys
below the inbox, where the operator puts recordings for reading.
"""

from __future__ import annotations

import re
import uuid

#: Each contains a folder for each session, training or validation, named by its ID.
SESSIONS, TRAININGS, VALIDATIONS = "sessions/", "trainings/", "validations/"


def folder_id(key: str) -> uuid.UUID | None:
    """Return the ID by which a key's folder is named; None if Clamor did not create the folder."""
    name = key.split("/")[1]
    try:
        found = uuid.UUID(name)
    except ValueError:
        return None
    # There are other forms of an ID, but keys are made of this one.
    return found if str(found) == name else None


def session_prefix(session_id: uuid.UUID) -> str:
    """Return the prefix of all blobs of a session."""
    return f"{SESSIONS}{session_id}/"


def recording_key(session_id: uuid.UUID) -> str:
    """Return the key of a session's recording."""
    return f"{session_prefix(session_id)}recording"


#: The keys of a session's recording, as posted or as fetched by an attempt, and of its muted copy.
_RECORDING = re.compile(rf"{SESSIONS}[^/]+/recording(-[\d.]+)?")
_MUTED = re.compile(rf"{SESSIONS}[^/]+/muted-[\d.]+")


def is_recording(key: str) -> bool:
    """Whether a key is that of a session's recording."""
    return _RECORDING.fullmatch(key) is not None


def is_muted_copy(key: str) -> bool:
    """Whether a key is that of a recording's copy without speech."""
    return _MUTED.fullmatch(key) is not None


#: Direct uploads of callers, by signed URLs: a folder for each upload, named by its ID.
UPLOADS = "uploads/"


def upload_prefix(upload_id: uuid.UUID) -> str:
    """Return the prefix of a direct upload, whose session has the same ID."""
    return f"{UPLOADS}{upload_id}/"


def upload_key(upload_id: uuid.UUID, user_id: uuid.UUID) -> str:
    """Return the key of a user's direct upload, where it stays until copied to its session."""
    return f"{upload_prefix(upload_id)}{user_id}"


#: Clips that outlive their recordings.
CLIPS = "clips/"


def clip_key(clip_id: uuid.UUID) -> str:
    """Return the key of a kept clip."""
    return f"{CLIPS}{clip_id}/clip.flac"


#: Files for download.
EXPORTS = "exports/"


def export_prefix(export_id: uuid.UUID) -> str:
    """Return the prefix of all blobs of an export."""
    return f"{EXPORTS}{export_id}/"


def training_prefix(job_id: uuid.UUID) -> str:
    """Return the prefix of all blobs of a training, including its model."""
    return f"{TRAININGS}{job_id}/"


def validation_prefix(validation_id: uuid.UUID) -> str:
    """Return the prefix of all blobs of a validation."""
    return f"{VALIDATIONS}{validation_id}/"


#: Pages of daily reports, in a folder for each report.
REPORTS = "reports/"


def report_prefix(report_id: uuid.UUID) -> str:
    """Return the prefix of all pages of a daily report."""
    return f"{REPORTS}{report_id}/"


def report_key(report_id: uuid.UUID, made_id: uuid.UUID) -> str:
    """Return the key of a daily report's page. A report generated again has another key."""
    return f"{report_prefix(report_id)}{made_id}.html"


#: Names the installation that the store belongs to, and the database of it.
OWNER = "installation.json"

#: Recordings that the operator provides and callers may name. Clamor only reads here.
INBOX = "inbox/"

#: A name below the inbox: no empty segments, control characters or backslashes.
_INBOX_NAME = re.compile(r"[^/\\\x00-\x1f\x7f]+(/[^/\\\x00-\x1f\x7f]+)*")
#: The longest key in UTF-8 that S3 allows.
MOST_KEY_BYTES = 1024


def is_inbox_key(key: str) -> bool:
    """Whether a caller may name this key: it is below the inbox and cannot lead out of it."""
    name = key.removeprefix(INBOX)
    return (
        key.startswith(INBOX)
        and len(key.encode(errors="replace")) <= MOST_KEY_BYTES
        and _INBOX_NAME.fullmatch(name) is not None
        and not {".", ".."} & set(name.split("/"))
    )


def shipped_key(sha256: str) -> str:
    """Return the key of a shipped model. The same file has the same key."""
    return f"models/{sha256}"


def product_key(
    session_id: uuid.UUID, name: str, *, attempt: int, resplits: int = 0, in_one_claim: bool = False
) -> str:
    """Return the key of an attempt's product, so a late worker cannot overwrite its successor's.

    ``in_one_claim``: made by the claim of the first stage, whose attempts are counted separately.
    """
    number = f"{resplits}.{attempt}" if resplits else f"{attempt}"
    # No other key ends so: attempts are counted from 1.
    suffix = ".0" if in_one_claim else ""
    return f"{session_prefix(session_id)}{name}-{number}{suffix}"
