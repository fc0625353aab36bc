"""The handlers of all kinds of work, and the setup of a worker process."""

from __future__ import annotations

import atexit
from collections.abc import Callable
from functools import partial
from typing import Any

import dramatiq
import structlog
from dramatiq.middleware import Middleware
from prometheus_client import CollectorRegistry

from actors.analytics import analyze
from actors.audio.aggregate import aggregate_session
from actors.audio.detect import detect_span
from actors.audio.process import process_audio_file
from actors.audio.split import find_waiting, split_recording
from actors.batches.expand import batch_process_files
from actors.execution import watchdog
from actors.execution.parent import end_with_parent
from actors.execution.runtime import Runtime
from actors.maintenance.cleanup import clean_up
from actors.maintenance.health import health_check
from actors.maintenance.retention import cleanup_failed_sessions, cleanup_old_sessions
from actors.maintenance.vacuum import vacuum_database
from actors.messaging import broker, kinds, messages, queues
from actors.messaging.messages import Nudge
from actors.messaging.rabbitmq import QuorumBroker
from actors.observability import probe_listener, tracing
from actors.observability.logs import configure
from actors.observability.metrics import ProcessMetrics, expect_runs
from actors.observability.readiness import Readiness
from actors.recovery import Recovery
from actors.scheduling import jobs
from actors.science.detection import classifier
from actors.webhooks.deliver import deliver_webhook
from db import migrate
from db.settings import from_environment

log = structlog.get_logger(__name__)

#: A worker without a broker for this long is not live, so that Kubernetes restarts it: a restart
#: helps if its credentials or its view of the network are stale. In an outage that lasts longer, a
#: worker continues by polling after each restart.
UNWELL_S = 900.0


def _process_audio_file(runtime: Runtime, nudge: messages.ProcessAudioFile) -> None:
    # The domains do not import each other.
    process_audio_file(runtime, nudge, analyze=analyze.at_the_end)


# Most workers do none of the following for days. Its libraries are a quarter of a worker's memory
# and of its start, so they are imported with the first message.


def _export_session_data(runtime: Runtime, nudge: messages.ExportSessionData) -> None:
    from actors.analytics.export import export_session_data

    export_session_data(runtime, nudge)


def _generate_daily_report(runtime: Runtime, nudge: messages.GenerateDailyReport) -> None:
    from actors.analytics.report import generate_daily_report

    generate_daily_report(runtime, nudge)


def _start_daily_reports(runtime: Runtime, nudge: messages.StartDailyReports) -> None:
    from actors.analytics.report import start_daily_reports

    start_daily_reports(runtime, nudge)


def _train_noise_classifier(runtime: Runtime, nudge: messages.TrainNoiseClassifier) -> None:
    from actors.training.train import train_noise_classifier

    train_noise_classifier(runtime, nudge)


def _validate_model(runtime: Runtime, nudge: messages.ValidateModel) -> None:
    from actors.training.validate import validate_model

    validate_model(runtime, nudge)


#: Handles each kind of work of `actors.messaging.kinds`, by its message.
HANDLERS: dict[type[Nudge], Callable[[Runtime, Any], None]] = {
    messages.ProcessAudioFile: _process_audio_file,
    messages.SplitRecording: split_recording,
    messages.DetectSpan: detect_span,
    messages.AggregateSession: aggregate_session,
    messages.AnalyzeSession: analyze.analyze_session_data,
    messages.BatchProcessFiles: batch_process_files,
    messages.DeliverWebhook: deliver_webhook,
    messages.TrainNoiseClassifier: _train_noise_classifier,
    messages.ValidateModel: _validate_model,
    messages.ExportSessionData: _export_session_data,
    messages.GenerateDailyReport: _generate_daily_report,
    messages.StartDailyReports: _start_daily_reports,
    messages.CheckHealth: health_check,
    messages.CleanUp: clean_up,
    messages.CleanUpOldSessions: cleanup_old_sessions,
    messages.CleanUpFailedSessions: cleanup_failed_sessions,
    messages.VacuumDatabase: vacuum_database,
}


def boot() -> None:
    """Set up a worker process, after the fork."""
    end_with_parent()
    settings = from_environment()
    configure(settings.log_level)
    provider = tracing.setup(settings, service="clamor-worker")
    consuming = broker.setup(settings)
    dramatiq.set_broker(consuming)
    runtime = Runtime(settings, consuming, owns_process=True)
    declare(consuming, runtime)
    _serve_probes(runtime)
    if provider is not None:
        # Runs after the runtime has closed, so that the spans of its last runs are exported too.
        atexit.register(provider.shutdown)


def _serve_probes(runtime: Runtime) -> None:
    """Answer probes and metrics, if the settings have an address for them."""
    if runtime.settings.probe_address is None:
        return
    registry, metrics = CollectorRegistry(), ProcessMetrics("worker", runtime.store)
    for kind in kinds.KINDS:
        expect_runs(kind.message.actor)
    header = classifier.shipped().header
    metrics.facts["model"] = {
        "name": str(header["name"]),
        "version": str(header["version"]),
        "backbone": runtime.backbone_state,
    }
    registry.register(metrics)
    broker = runtime.publisher.broker
    readiness = Readiness(
        needed={
            "database": partial(migrate.check, runtime.store),
            "blobs": runtime.blobs.check,
            "broker": partial(queues.check_consumers, broker),
        },
    )
    app = probe_listener.application(
        readiness, registry, is_well=lambda: queues.away_s(broker) < UNWELL_S
    )
    probe_listener.start(app, runtime.settings.probe_address)


def declare(consuming: dramatiq.Broker, runtime: Runtime) -> None:
    """Register every actor with the broker and tie the runtime's lifecycle to the worker's."""
    for kind in kinds.KINDS:
        dramatiq.actor(
            broker=consuming,
            actor_name=kind.message.actor,
            queue_name=messages.queue_name(kind.message, prefix=runtime.settings.queue_prefix),
            time_limit=watchdog.limit_s(kind.message, runtime.settings) * 1_000,
            **jobs.options_for(kind.message),
        )(_receiver(runtime, kind.message))
    runtime.turns.handle = lambda nudge: HANDLERS[type(nudge)](runtime, nudge)
    consuming.add_middleware(WorkerLifecycle(runtime))


def _receiver(runtime: Runtime, message: type[Nudge]) -> Callable[..., None]:
    handle = HANDLERS[message]

    def receive(**payload: Any) -> None:
        nudge = message.parse(payload)
        # The wait for the turn is not the message's.
        runtime.watchdog.lift_limit()
        with runtime.turns.taken():
            handle(runtime, nudge)

    return receive


class WorkerLifecycle(Middleware):
    """Start recovery and register the shipped model at boot; close everything at shutdown."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._recovery = Recovery(runtime)

    def before_worker_boot(self, _broker: dramatiq.Broker, worker: dramatiq.Worker) -> None:
        turns = self._runtime.turns
        turns.among(worker.worker_threads)
        turns.take_due = self._recovery.take_short
        turns.find_long = partial(find_waiting, self._runtime)

    def after_worker_boot(self, broker: dramatiq.Broker, _worker: dramatiq.Worker) -> None:
        self._recovery.start()
        if isinstance(broker, QuorumBroker):
            broker.poll(self._recovery.take_due)
        try:
            _ = self._runtime.shipped_model_id
        except Exception as error:
            # Postgres or the blob store is unavailable: the first recording registers the model.
            log.warning("model_not_registered", error=type(error).__name__)

    def before_worker_shutdown(self, _broker: dramatiq.Broker, _worker: dramatiq.Worker) -> None:
        self._runtime.turns.stop()

    def after_worker_shutdown(self, _broker: dramatiq.Broker, _worker: dramatiq.Worker) -> None:
        self._recovery.stop()
        self._runtime.turns.join()
        self._runtime.close()
