"""The HTTP application: routes, middleware and dependencies."""

from __future__ import annotations

import atexit
import threading
from dataclasses import dataclass, field
from typing import Any

import falcon
from prometheus_client import CollectorRegistry

from actors import backbones
from actors.messaging import broker
from actors.messaging.broker import Publisher
from actors.observability import tracing
from actors.observability.logs import configure
from actors.outbound.client import Outbound
from actors.parent import end_with_parent
from db.blobs import Blobs
from db.settings import Settings, from_environment
from db.store import Store
from services.api.accounts import resources as accounts
from services.api.admin import health, jobs, metrics, usage
from services.api.analyses import resources as analyses
from services.api.batches import resources as batches
from services.api.exports import resources as exports
from services.api.models import noise_types, trainings, validations
from services.api.models import resources as models
from services.api.reports import resources as reports
from services.api.sessions import detections, events, legal_holds, media, remote_sources, retries
from services.api.sessions import resources as sessions
from services.api.webhooks import resources as webhooks
from services.http import exchange, keys, operations, problems, shutdown
from services.http.access import Access
from services.http.access_log import AccessLog
from services.http.exchange import Listener
from services.http.http_metrics import HttpMetrics
from services.http.idempotency import Idempotency
from services.http.operations import Parameters
from services.http.quotas import Quota
from services.http.rate_limits import RateLimiter
from services.http.request_ids import RequestId
from services.http.request_log import RequestLog
from services.http.request_traces import Traces
from services.openapi import document as openapi
from services.openapi.documentation import resources as documentation
from services.viewer import index
from services.viewer import pages as viewer


@dataclass(frozen=True)
class Deps:
    """The dependencies of the application."""

    settings: Settings
    store: Store
    blobs: Blobs
    publisher: Publisher
    #: Writes a row for each request; None disables the request log.
    recorder: RequestLog | None = None
    #: Enforces the rate limits of keys; None disables them.
    limiter: RateLimiter | None = None
    #: Set when the process is stopping: event streams, which last for minutes, then end.
    stopping: threading.Event = field(default_factory=threading.Event)


def create_app(given: Deps) -> falcon.App[falcon.Request, falcon.Response]:
    """Build the application from its dependencies."""
    hasher = keys.Hasher(given.settings.key_pepper)
    middleware: list[Any] = [
        # First, so that every later failure can be found in the log by request ID.
        RequestId(),
        # Before anything that reads rows: it determines whose rows are visible.
        Access(given.store, hasher, limiter=given.limiter),
        # After access: only authenticated callers learn which parameters exist.
        Parameters(),
        # After everything that may refuse a request: a refused request was never started.
        Idempotency(given.store, lease_s=given.settings.lease_s),
        # After idempotency: a replayed answer does not need quota, even if it is used up by now.
        Quota(given.store, limit_s=given.settings.max_audio_s_per_month),
    ]
    if tracing.is_on():
        # Outermost, so that a trace covers the whole request.
        middleware.insert(0, Traces())
    # A registry per application, not the global one of the library.
    registry = CollectorRegistry()
    app = exchange.App(middleware=middleware, listeners=_listeners(given, registry))
    problems.install(app)
    table = routes(given, registry=registry)
    operations.check(table)
    for template, resource in table.items():
        app.add_route(template, resource)
    return app


def routes(given: Deps, *, registry: CollectorRegistry) -> dict[str, object]:
    """Return the route table: resources by path template."""
    hasher = keys.Hasher(given.settings.key_pepper)
    store, blobs, publisher = given.store, given.blobs, given.publisher
    outbound = Outbound(given.settings.private_networks)
    max_bytes = given.settings.max_upload_bytes
    quota = Quota(store, limit_s=given.settings.max_audio_s_per_month)
    places = events.Places(given.settings.event_streams, stopping=given.stopping)
    brought = remote_sources.RemoteSources(store, blobs, outbound, max_upload_bytes=max_bytes)
    backbone = backbones.source(given.settings.backbone_url)
    page = viewer.files()
    table: dict[str, object] = {
        "/v1/sessions": sessions.SessionList(
            store,
            blobs,
            publisher,
            brought,
            max_upload_bytes=max_bytes,
            can_mute=backbone is not None,
        ),
        "/v1/sessions/{session_id:uuid}": sessions.SessionItem(store),
        "/v1/sessions/{session_id:uuid}/detections": detections.SessionDetections(store),
        "/v1/sessions/{session_id:uuid}/levels": sessions.SessionLevels(store, blobs),
        "/v1/sessions/{session_id:uuid}/analysis": analyses.SessionAnalysis(store, publisher),
        "/v1/sessions/{session_id:uuid}/recording": media.SessionRecording(store, blobs),
        "/v1/sessions/{session_id:uuid}/spectrogram.png": media.SessionSpectrogram(store, blobs),
        "/v1/sessions/{session_id:uuid}/events": events.SessionEvents(store, places),
        "/v1/sessions/{session_id:uuid}/hold": legal_holds.SessionHold(store),
        "/v1/sessions/{session_id:uuid}/cancel": sessions.SessionCancel(store),
        "/v1/sessions/{session_id:uuid}/retry": retries.SessionRetry(store, publisher),
        "/sessions": viewer.StartPage(page),
        "/sessions/{session_id:uuid}": viewer.SessionPage(page),
        "/page/{name}": viewer.PageFiles(page),
        "/v1/detections": detections.DetectionList(store),
        "/v1/noise-types": noise_types.NoiseTypeList(),
        "/v1/batches": batches.BatchList(
            store,
            blobs,
            publisher,
            max_upload_bytes=max_bytes,
            max_items=given.settings.max_batch_items,
            can_mute=backbone is not None,
        ),
        "/v1/batches/{batch_id:uuid}": batches.BatchResource(store),
        "/v1/batches/{batch_id:uuid}/items": batches.BatchItems(store),
        "/v1/batches/{batch_id:uuid}/cancel": batches.BatchCancel(store, blobs),
        "/v1/models": models.ModelList(
            store,
            blobs,
            publisher,
            backbone,
            max_upload_bytes=max_bytes,
        ),
        "/v1/models/{model_id:uuid}": models.ModelItem(store),
        "/v1/models/{model_id:uuid}/confusion.png": models.ModelConfusion(store, blobs),
        "/v1/models/{model_id:uuid}/file": models.ModelFile(store, blobs),
        "/v1/models/{model_id:uuid}/promote": models.ModelPromote(store, blobs),
        "/v1/models/{model_id:uuid}/validate": validations.ValidationStart(
            store, blobs, publisher, max_upload_bytes=max_bytes
        ),
        "/v1/trainings": trainings.TrainingList(store),
        "/v1/trainings/{job_id:uuid}": trainings.TrainingItem(store),
        "/v1/exports": exports.ExportList(store, publisher, keep_days=given.settings.export_days),
        "/v1/exports/{export_id:uuid}": exports.ExportItem(store, blobs),
        "/v1/exports/{export_id:uuid}/file": exports.ExportFile(store, blobs),
        "/v1/uploads": remote_sources.UploadList(blobs),
        "/v1/validations": validations.ValidationList(
            store, blobs, publisher, max_upload_bytes=max_bytes
        ),
        "/v1/validations/{validation_id:uuid}": validations.ValidationItem(store),
        "/v1/webhooks": webhooks.WebhookList(store, outbound),
        "/v1/webhooks/{webhook_id:uuid}": webhooks.WebhookItem(store, outbound, publisher),
        "/v1/webhooks/{webhook_id:uuid}/rotate": webhooks.WebhookRotate(store),
        "/v1/webhooks/{webhook_id:uuid}/test": webhooks.WebhookTest(store, publisher),
        "/v1/webhooks/{webhook_id:uuid}/deliveries": webhooks.WebhookDeliveries(store),
        "/v1/webhooks/{webhook_id:uuid}/deliveries/{delivery_id:uuid}/replay": (
            webhooks.DeliveryReplay(store, publisher)
        ),
        "/v1/reports": reports.ReportList(store, publisher),
        "/v1/reports/{report_id:uuid}": reports.ReportItem(store),
        "/v1/reports/{report_id:uuid}/html": reports.ReportPage(store, blobs),
        "/v1/users": accounts.UserList(store),
        "/v1/users/{user_id:uuid}": accounts.UserItem(store),
        "/v1/users/{user_id:uuid}/disable": accounts.UserSwitch(store, disables=True),
        "/v1/users/{user_id:uuid}/enable": accounts.UserSwitch(store, disables=False),
        "/v1/users/{user_id:uuid}/keys": accounts.UserKeys(store, hasher),
        "/v1/keys/{key_id}": accounts.KeyItem(store),
        "/v1/keys/{key_id}/rotate": accounts.KeyRotate(store, hasher),
        "/v1/usage": usage.UsageItem(store, quota),
        "/v1/jobs": jobs.JobList(store),
        "/v1/jobs/{job}/runs": jobs.JobRuns(store, publisher),
        "/": index.IndexItem(max_upload_bytes=max_bytes),
        "/health/live": health.Live(),
        "/health/ready": health.Ready(store, blobs, publisher),
        "/metrics": metrics.Metrics(store, publisher.broker, given.settings, registry=registry),
    }
    # Last: the document describes all other routes, and itself.
    document = openapi.Document(table)
    table |= {
        "/openapi.json": document,
        "/docs": documentation.Docs(document),
        "/problems": documentation.ProblemList(),
        "/problems/{name}": documentation.ProblemPage(document),
    }
    return table


def _listeners(given: Deps, registry: CollectorRegistry) -> list[Listener]:
    """Return the listeners that are called for each request and its answer."""
    listeners: list[Listener] = [HttpMetrics(registry)]
    if given.settings.has_access_log:
        listeners.append(AccessLog())
    if given.recorder is not None:
        registry.register(given.recorder)
        listeners.append(given.recorder)
    return listeners


def get_app() -> falcon.App[falcon.Request, falcon.Response]:
    """Build the application from environment settings; called once per server process."""
    end_with_parent()
    settings = from_environment()
    configure(settings.log_level)
    tracing.setup(settings, service="clamor-api")
    publisher = Publisher(broker.setup(settings), prefix=settings.queue_prefix)
    # The server stops on SIGTERM; pending nudges are sent before the process exits.
    atexit.register(publisher.close)
    store = Store(settings.database_url, pool_size=SERVER_THREADS)
    recorder, limiter = beside(settings, store)
    return create_app(
        Deps(
            settings=settings,
            store=store,
            blobs=Blobs(settings.blob_url),
            publisher=publisher,
            recorder=recorder,
            limiter=limiter,
            stopping=shutdown.at_signal(),
        )
    )


def beside(settings: Settings, store: Store) -> tuple[RequestLog, RateLimiter]:
    """Start the background threads of a server process, which run until it exits."""
    recorder = RequestLog(store)
    limiter = RateLimiter(store, per_s=settings.rate_limit_per_s, burst_s=settings.rate_burst_s)
    limiter.start()
    atexit.register(recorder.close)
    atexit.register(limiter.close)
    return recorder, limiter


#: Concurrent requests of one server process besides its streams, and its pool of database
#: connections. A stream needs a connection only briefly.
SERVER_THREADS = 16
