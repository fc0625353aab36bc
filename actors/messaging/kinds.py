"""The kinds of work: one record each, in the order of the pipeline.

The broker, the workers, the watchdog, recovery, the metrics and ``clamor queues`` iterate over
`KINDS`. A record has everything about a kind except its handler: the HTTP process reads these
records too and must not import the code that does the work, so `actors.worker` adds the handlers.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass

from sqlalchemy.orm import Session

from actors.messaging import messages
from actors.messaging.messages import Nudge
from db.queries import queue_queries
from db.queries.queue_queries import Backlog, WorkRows
from db.tables.analyses import AnalysisJob
from db.tables.exports import Export
from db.tables.reports import DailyReport
from db.tables.training import TrainingJob, Validation


@dataclass(frozen=True)
class WorkKind:
    """One kind of work."""

    #: Names the actor and the queue.
    message: type[Nudge]
    _: KW_ONLY
    #: How long one run may take, in seconds. RabbitMQ considers a consumer dead that does not ack
    #: for 30 minutes: no deadline plus the grace of `actors.execution.watchdog` may come near that.
    #: ``CLAMOR_DEADLINE_S`` shortens it.
    deadline_s: float
    #: The work items: their table, which of them wait, and how a message names one.
    rows: WorkRows
    #: Whether a worker may do it between the pieces of longer work: a few seconds each, most often.
    is_short: bool = False


def _job(message: type[Nudge], *, deadline_s: float) -> WorkKind:
    """Return the kind of the runs of a periodic job."""
    return WorkKind(message, deadline_s=deadline_s, rows=queue_queries.runs_of(message.actor))


KINDS: tuple[WorkKind, ...] = (
    # Fetches a recording that is stored elsewhere (`audio/fetch.py`), or only reads the header.
    WorkKind(
        messages.ProcessAudioFile,
        deadline_s=900.0,
        rows=queue_queries.sessions_in("queued"),
        is_short=True,
    ),
    # Decodes a day of audio at most.
    WorkKind(
        messages.SplitRecording, deadline_s=1_500.0, rows=queue_queries.sessions_in("splitting")
    ),
    # A minute of audio, which takes one or two seconds at most.
    WorkKind(messages.DetectSpan, deadline_s=120.0, rows=queue_queries.SPANS, is_short=True),
    WorkKind(
        messages.AggregateSession,
        deadline_s=900.0,
        rows=queue_queries.sessions_in("aggregating"),
        is_short=True,
    ),
    # Computes for a second or two, over a day of levels at most.
    WorkKind(
        messages.AnalyzeSession,
        deadline_s=120.0,
        rows=queue_queries.pending(AnalysisJob, session_id=AnalysisJob.id),
        is_short=True,
    ),
    # Copies a page of recordings.
    WorkKind(messages.BatchProcessFiles, deadline_s=1_500.0, rows=queue_queries.BATCHES),
    # One request, which itself times out after ten seconds.
    WorkKind(messages.DeliverWebhook, deadline_s=60.0, rows=queue_queries.WEBHOOKS, is_short=True),
    WorkKind(
        messages.TrainNoiseClassifier,
        deadline_s=1_500.0,
        rows=queue_queries.pending(TrainingJob, job_id=TrainingJob.id),
    ),
    WorkKind(
        messages.ValidateModel,
        deadline_s=1_500.0,
        rows=queue_queries.pending(Validation, validation_id=Validation.id),
    ),
    WorkKind(
        messages.ExportSessionData,
        deadline_s=1_500.0,
        rows=queue_queries.pending(Export, export_id=Export.id),
    ),
    # Sums up eight days and draws plots.
    WorkKind(
        messages.GenerateDailyReport,
        deadline_s=300.0,
        rows=queue_queries.pending(DailyReport, report_id=DailyReport.id),
    ),
    _job(messages.StartDailyReports, deadline_s=60.0),
    _job(messages.CheckHealth, deadline_s=60.0),
    _job(messages.CleanUp, deadline_s=1_500.0),
    _job(messages.CleanUpOldSessions, deadline_s=1_500.0),
    _job(messages.CleanUpFailedSessions, deadline_s=1_500.0),
    _job(messages.VacuumDatabase, deadline_s=1_500.0),
)


def kind_of(message: type[Nudge]) -> WorkKind:
    """Return the kind of work of a message."""
    return next(kind for kind in KINDS if kind.message is message)


def backlogs(tx: Session) -> dict[str, Backlog]:
    """Return the unfinished rows of each kind, by its queue."""
    return queue_queries.backlogs(tx, {kind.message.queue: kind.rows for kind in KINDS})
