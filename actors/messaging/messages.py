"""The wire contract: what may be said between processes.

A message is a nudge: there is one more row to look at. It is small JSON of identifiers, it carries
no state, and handling one twice changes nothing. A session or a span that it names is only whom it
was sent for, and is told in the log: the worker takes the one that is next
(``db/queue/fair_order.py``). Fields may be added with a default; none may be renamed or removed
while a message that bears it can still lie in a queue.
"""

from __future__ import annotations

import uuid
from typing import Any, ClassVar, Self

import dramatiq
import msgspec


class Nudge(msgspec.Struct, frozen=True, kw_only=True):
    """The root of all messages. A subclass states its actor; its fields are the payload."""

    #: The actor's name on the wire.
    actor: ClassVar[str]
    #: The queue, without the installation's prefix. One an actor: classes of work that share a
    #: queue would wait for one another.
    queue: ClassVar[str]

    def payload(self) -> dict[str, Any]:
        """The fields, as JSON knows them."""
        return dict(msgspec.to_builtins(self))

    @classmethod
    def parse(cls, payload: dict[str, Any]) -> Self:
        """The message that was sent; raises :class:`msgspec.ValidationError` if it is not one."""
        return msgspec.convert(payload, cls)


class ProcessAudioFile(Nudge, frozen=True, kw_only=True):
    """A recording has arrived: check it and start the pipeline."""

    actor: ClassVar[str] = "process_audio_file"
    queue: ClassVar[str] = "audio.process"

    session_id: uuid.UUID


class SplitRecording(Nudge, frozen=True, kw_only=True):
    """A recording was checked: decode it, measure its levels and plan its spans."""

    actor: ClassVar[str] = "split_recording"
    queue: ClassVar[str] = "audio.split"

    session_id: uuid.UUID


class DetectSpan(Nudge, frozen=True, kw_only=True):
    """A span is waiting: classify its chunks."""

    actor: ClassVar[str] = "detect_span"
    queue: ClassVar[str] = "audio.detect"

    session_id: uuid.UUID
    span_index: int


class AggregateSession(Nudge, frozen=True, kw_only=True):
    """All spans are finished: merge them into events."""

    actor: ClassVar[str] = "aggregate_session"
    queue: ClassVar[str] = "audio.aggregate"

    session_id: uuid.UUID


class AnalyzeSession(Nudge, frozen=True, kw_only=True):
    """A session has ended, or somebody asks: reckon what it comes to."""

    actor: ClassVar[str] = "analyze_session_data"
    queue: ClassVar[str] = "analytics.analyze"

    session_id: uuid.UUID


class BatchProcessFiles(Nudge, frozen=True, kw_only=True):
    """Recordings that lie in the blob store were named: make sessions of the next of them."""

    actor: ClassVar[str] = "batch_process_files"
    queue: ClassVar[str] = "audio.batch"

    batch_id: uuid.UUID


class DeliverWebhook(Nudge, frozen=True, kw_only=True):
    """A webhook has something to be told: deliver the next of it."""

    actor: ClassVar[str] = "deliver_webhook"
    queue: ClassVar[str] = "audio.notify"

    webhook_id: uuid.UUID


class TrainNoiseClassifier(Nudge, frozen=True, kw_only=True):
    """Labelled recordings have arrived: learn a model from them."""

    actor: ClassVar[str] = "train_noise_classifier"
    queue: ClassVar[str] = "training.train"

    job_id: uuid.UUID


class ValidateModel(Nudge, frozen=True, kw_only=True):
    """A model is to be looked at: is its file whole, and how good is it?"""

    actor: ClassVar[str] = "validate_model"
    queue: ClassVar[str] = "training.validate"

    validation_id: uuid.UUID


class ExportSessionData(Nudge, frozen=True, kw_only=True):
    """Events are to be written to a file."""

    actor: ClassVar[str] = "export_session_data"
    queue: ClassVar[str] = "analytics.export"

    export_id: uuid.UUID


class GenerateDailyReport(Nudge, frozen=True, kw_only=True):
    """A report was asked for: make it."""

    actor: ClassVar[str] = "generate_daily_report"
    queue: ClassVar[str] = "analytics.report"

    report_id: uuid.UUID


class StartDailyReports(Nudge, frozen=True, kw_only=True):
    """The clock struck: have the reports of yesterday made."""

    actor: ClassVar[str] = "start_daily_reports"
    queue: ClassVar[str] = "analytics.daily"


class CheckHealth(Nudge, frozen=True, kw_only=True):
    """The clock struck: see whether the system is well."""

    actor: ClassVar[str] = "health_check"
    queue: ClassVar[str] = "maintenance"


class CleanUp(Nudge, frozen=True, kw_only=True):
    """The clock struck: remove what nobody knows of."""

    actor: ClassVar[str] = "clean_up"
    queue: ClassVar[str] = "maintenance.cleanup"


class CleanUpOldSessions(Nudge, frozen=True, kw_only=True):
    """The clock struck: remove sessions that are older than they are kept."""

    actor: ClassVar[str] = "cleanup_old_sessions"
    queue: ClassVar[str] = "maintenance.old"


class CleanUpFailedSessions(Nudge, frozen=True, kw_only=True):
    """The clock struck: remove sessions that failed, or do not end."""

    actor: ClassVar[str] = "cleanup_failed_sessions"
    queue: ClassVar[str] = "maintenance.failed"


class VacuumDatabase(Nudge, frozen=True, kw_only=True):
    """The clock struck: let Postgres tidy its tables."""

    actor: ClassVar[str] = "vacuum_database"
    queue: ClassVar[str] = "maintenance.vacuum"


ALL: tuple[type[Nudge], ...] = (
    ProcessAudioFile,
    SplitRecording,
    DetectSpan,
    AggregateSession,
    AnalyzeSession,
    BatchProcessFiles,
    DeliverWebhook,
    TrainNoiseClassifier,
    ValidateModel,
    ExportSessionData,
    GenerateDailyReport,
    StartDailyReports,
    CheckHealth,
    CleanUp,
    CleanUpOldSessions,
    CleanUpFailedSessions,
    VacuumDatabase,
)


def queue_name(nudge: type[Nudge], *, prefix: str) -> str:
    """The queue's full name on the broker."""
    return f"{prefix}.{nudge.queue}"


def send(nudge: Nudge, *, broker: dramatiq.Broker, prefix: str) -> None:
    """Publish a message. Raises what the broker raises; see `actors.messaging.broker.Publisher`."""
    broker.enqueue(
        dramatiq.Message(
            queue_name=queue_name(type(nudge), prefix=prefix),
            actor_name=nudge.actor,
            args=(),
            kwargs=nudge.payload(),
            options={},
        )
    )
