"""The wire contract: the messages between processes.

A message is a nudge: there is one more row to look at. It is small JSON of identifiers, carries no
state, and handling it twice changes nothing. The session or span in it only says why it was sent,
and is logged; the worker claims the one that is next (``db/queue/fair_order.py``). Fields may be
added with a default. None may be renamed or removed while messages with it may still be queued.
"""

from __future__ import annotations

import uuid
from typing import Any, ClassVar, Self

import dramatiq
import msgspec

from db import typed


class Nudge(msgspec.Struct, frozen=True, kw_only=True):
    """Base class of all messages. A subclass names its actor; its fields are the payload."""

    #: The actor's name on the wire.
    actor: ClassVar[str]
    #: The queue, without the installation's prefix. One per actor: kinds of work that share a
    #: queue would wait for one another.
    queue: ClassVar[str]

    def payload(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return dict(msgspec.to_builtins(self))

    @classmethod
    def parse(cls, payload: dict[str, Any]) -> Self:
        """Decode a payload; raise :class:`msgspec.ValidationError` if it is invalid."""
        return typed.convert(payload, cls)


class ProcessAudioFile(Nudge, frozen=True, kw_only=True):
    """Check a new recording and start the pipeline."""

    actor: ClassVar[str] = "process_audio_file"
    queue: ClassVar[str] = "audio.process"

    session_id: uuid.UUID


class SplitRecording(Nudge, frozen=True, kw_only=True):
    """Decode a checked recording, measure its levels and plan its spans."""

    actor: ClassVar[str] = "split_recording"
    queue: ClassVar[str] = "audio.split"

    session_id: uuid.UUID


class DetectSpan(Nudge, frozen=True, kw_only=True):
    """Classify the chunks of a span."""

    actor: ClassVar[str] = "detect_span"
    queue: ClassVar[str] = "audio.detect"

    session_id: uuid.UUID
    span_index: int


class AggregateSession(Nudge, frozen=True, kw_only=True):
    """Merge the finished spans of a session into detections."""

    actor: ClassVar[str] = "aggregate_session"
    queue: ClassVar[str] = "audio.aggregate"

    session_id: uuid.UUID


class AnalyzeSession(Nudge, frozen=True, kw_only=True):
    """Compute the analysis of a finished session (at its end or on request)."""

    actor: ClassVar[str] = "analyze_session_data"
    queue: ClassVar[str] = "analytics.analyze"

    session_id: uuid.UUID


class BatchProcessFiles(Nudge, frozen=True, kw_only=True):
    """Create sessions for the next recordings of a batch in the blob store."""

    actor: ClassVar[str] = "batch_process_files"
    queue: ClassVar[str] = "batches.expand"

    batch_id: uuid.UUID


class DeliverWebhook(Nudge, frozen=True, kw_only=True):
    """Send the next delivery of a webhook."""

    actor: ClassVar[str] = "deliver_webhook"
    queue: ClassVar[str] = "webhooks.deliver"

    webhook_id: uuid.UUID


class TrainNoiseClassifier(Nudge, frozen=True, kw_only=True):
    """Train a model on labelled recordings."""

    actor: ClassVar[str] = "train_noise_classifier"
    queue: ClassVar[str] = "training.train"

    job_id: uuid.UUID


class ValidateModel(Nudge, frozen=True, kw_only=True):
    """Validate a model: the integrity of its file, and its accuracy."""

    actor: ClassVar[str] = "validate_model"
    queue: ClassVar[str] = "training.validate"

    validation_id: uuid.UUID


class ExportSessionData(Nudge, frozen=True, kw_only=True):
    """Write detections to a file."""

    actor: ClassVar[str] = "export_session_data"
    queue: ClassVar[str] = "analytics.export"

    export_id: uuid.UUID


class GenerateDailyReport(Nudge, frozen=True, kw_only=True):
    """Generate a requested report."""

    actor: ClassVar[str] = "generate_daily_report"
    queue: ClassVar[str] = "analytics.report"

    report_id: uuid.UUID


class StartDailyReports(Nudge, frozen=True, kw_only=True):
    """Scheduled: request the reports of yesterday."""

    actor: ClassVar[str] = "start_daily_reports"
    queue: ClassVar[str] = "analytics.daily"


class CheckHealth(Nudge, frozen=True, kw_only=True):
    """Scheduled: check the health of the system."""

    actor: ClassVar[str] = "health_check"
    queue: ClassVar[str] = "maintenance"


class CleanUp(Nudge, frozen=True, kw_only=True):
    """Scheduled: remove blobs without a row, and old rows."""

    actor: ClassVar[str] = "clean_up"
    queue: ClassVar[str] = "maintenance.cleanup"


class CleanUpOldSessions(Nudge, frozen=True, kw_only=True):
    """Scheduled: remove sessions past their retention."""

    actor: ClassVar[str] = "cleanup_old_sessions"
    queue: ClassVar[str] = "maintenance.old"


class CleanUpFailedSessions(Nudge, frozen=True, kw_only=True):
    """Scheduled: remove sessions that failed or never end."""

    actor: ClassVar[str] = "cleanup_failed_sessions"
    queue: ClassVar[str] = "maintenance.failed"


class VacuumDatabase(Nudge, frozen=True, kw_only=True):
    """Scheduled: vacuum the tables of Postgres."""

    actor: ClassVar[str] = "vacuum_database"
    queue: ClassVar[str] = "maintenance.vacuum"


def every() -> list[type[Nudge]]:
    """Return the messages of this module, in its order."""
    return [each for each in Nudge.__subclasses__() if each.__module__ == __name__]


def queue_name(nudge: type[Nudge], *, prefix: str) -> str:
    """Return the queue's full name on the broker."""
    return f"{prefix}.{nudge.queue}"


def send(nudge: Nudge, *, broker: dramatiq.Broker, prefix: str) -> None:
    """Publish a message. Errors propagate; `actors.messaging.broker.Publisher` handles them."""
    broker.enqueue(
        dramatiq.Message(
            queue_name=queue_name(type(nudge), prefix=prefix),
            actor_name=nudge.actor,
            args=(),
            kwargs=nudge.payload(),
            options={},
        )
    )
