"""The HTTP application: routes, middleware and dependencies."""

from __future__ import annotations

import atexit
from collections.abc import Callable, Iterable
from dataclasses import replace
from http import HTTPStatus
from typing import Any

import falcon
from prometheus_client import CollectorRegistry

from actors.execution.parent import end_with_parent
from actors.messaging import broker
from actors.messaging.broker import Publisher
from actors.observability import probe_listener, tracing
from actors.observability.logs import configure
from actors.observability.metrics import ProcessMetrics
from actors.observability.probe_listener import Application
from actors.scheduling.work_due import WorkDue
from db.blobs import patience
from db.blobs.blob_store import Blobs
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
from services.api.sessions import (
    deletions,
    detection_clips,
    detections,
    events,
    legal_holds,
    media,
    remote_sources,
    retries,
)
from services.api.sessions import resources as sessions
from services.api.webhooks import resources as webhooks
from services.http import exchange, operations, problems, shutdown
from services.http.access import Access
from services.http.access_log import AccessLog
from services.http.connection_guard import ConnectionGuard, ConnectionLimits
from services.http.deps import Deps
from services.http.exchange import Listener
from services.http.http_metrics import HttpMetrics
from services.http.idempotency import Idempotency
from services.http.operations import Parameters
from services.http.places import Transfers
from services.http.rate_limits import RateLimiter
from services.http.request_ids import RequestId
from services.http.request_log import RequestLog
from services.http.request_traces import Traces
from services.http.resource import Resource
from services.http.response_headers import ResponseHeaders, cors
from services.openapi import document as openapi
from services.openapi.documentation import resources as documentation
from services.viewer import index
from services.viewer import pages as viewer

#: The route table: the resource of each path.
ROUTES: dict[str, type[Resource]] = {
    "/v1/sessions": sessions.SessionList,
    "/v1/sessions/retry": retries.SessionRetries,
    "/v1/sessions/deletions": deletions.SessionDeletions,
    "/v1/sessions/{session_id:uuid}": sessions.SessionItem,
    "/v1/sessions/{session_id:uuid}/detections": detections.SessionDetections,
    "/v1/sessions/{session_id:uuid}/levels": sessions.SessionLevels,
    "/v1/sessions/{session_id:uuid}/analysis": analyses.SessionAnalysis,
    "/v1/sessions/{session_id:uuid}/recording": media.SessionRecording,
    "/v1/sessions/{session_id:uuid}/spectrogram.png": media.SessionSpectrogram,
    "/v1/sessions/{session_id:uuid}/events": events.SessionEvents,
    "/v1/sessions/{session_id:uuid}/hold": legal_holds.SessionHold,
    "/v1/sessions/{session_id:uuid}/cancel": sessions.SessionCancel,
    "/v1/sessions/{session_id:uuid}/retry": retries.SessionRetry,
    "/sessions": viewer.StartPage,
    "/sessions/{session_id:uuid}": viewer.SessionHtml,
    "/page/{name}": viewer.PageFiles,
    "/v1/detections": detections.DetectionList,
    "/v1/detections/summary": detections.DetectionSums,
    "/v1/detections/{detection_id:uuid}": detections.DetectionItem,
    "/v1/detections/{detection_id:uuid}/clip.flac": detection_clips.DetectionClip,
    "/v1/noise-types": noise_types.NoiseTypeList,
    "/v1/batches": batches.BatchList,
    "/v1/batches/{batch_id:uuid}": batches.BatchResource,
    "/v1/batches/{batch_id:uuid}/items": batches.BatchItems,
    "/v1/batches/{batch_id:uuid}/cancel": batches.BatchCancel,
    "/v1/models": models.ModelList,
    "/v1/models/{model_id:uuid}": models.ModelItem,
    "/v1/models/{model_id:uuid}/confusion.png": models.ModelConfusion,
    "/v1/models/{model_id:uuid}/file": models.ModelFile,
    "/v1/models/{model_id:uuid}/promote": models.ModelPromote,
    "/v1/models/{model_id:uuid}/validate": validations.ValidationStart,
    "/v1/trainings": trainings.TrainingList,
    "/v1/trainings/{job_id:uuid}": trainings.TrainingItem,
    "/v1/exports": exports.ExportList,
    "/v1/exports/{export_id:uuid}": exports.ExportItem,
    "/v1/exports/{export_id:uuid}/file": exports.ExportFile,
    "/v1/uploads": remote_sources.UploadList,
    "/v1/validations": validations.ValidationList,
    "/v1/validations/{validation_id:uuid}": validations.ValidationItem,
    "/v1/webhooks": webhooks.WebhookList,
    "/v1/webhooks/{webhook_id:uuid}": webhooks.WebhookItem,
    "/v1/webhooks/{webhook_id:uuid}/rotate": webhooks.WebhookRotate,
    "/v1/webhooks/{webhook_id:uuid}/test": webhooks.WebhookTest,
    "/v1/webhooks/{webhook_id:uuid}/deliveries": webhooks.WebhookDeliveries,
    "/v1/webhooks/{webhook_id:uuid}/deliveries/{delivery_id:uuid}/replay": webhooks.DeliveryReplay,
    "/v1/reports": reports.ReportList,
    "/v1/reports/{report_id:uuid}": reports.ReportItem,
    "/v1/reports/{report_id:uuid}/html": reports.ReportHtml,
    "/v1/users": accounts.UserList,
    "/v1/users/{user_id:uuid}": accounts.UserItem,
    "/v1/users/{user_id:uuid}/disable": accounts.UserDisable,
    "/v1/users/{user_id:uuid}/enable": accounts.UserEnable,
    "/v1/users/{user_id:uuid}/keys": accounts.UserKeys,
    "/v1/keys/{key_id}": accounts.KeyItem,
    "/v1/keys/{key_id}/rotate": accounts.KeyRotate,
    "/v1/usage": usage.UsageItem,
    "/v1/jobs": jobs.JobList,
    "/v1/jobs/{job}/runs": jobs.JobRuns,
    "/": index.IndexItem,
    "/health/live": health.Live,
    "/health/ready": health.Ready,
}


def routes(deps: Deps, *, registry: CollectorRegistry) -> dict[str, object]:
    """Return the resources by path: those of `ROUTES`, and those that need more than ``deps``."""
    table: dict[str, object] = {template: kind(deps) for template, kind in ROUTES.items()}
    table["/metrics"] = metrics.Metrics(deps, registry=registry)
    # Last: the document describes all other routes, and itself.
    document = openapi.Document(deps, table)
    table |= {
        "/openapi.json": document,
        "/docs": documentation.Docs(deps, document),
        "/problems": documentation.ProblemList(deps, document),
        "/problems/{name}": documentation.ProblemPage(deps, document),
    }
    return table


def create_app(deps: Deps) -> falcon.App[falcon.Request, falcon.Response]:
    """Build the application from its dependencies."""
    middleware: list[Any] = [
        # Outside of all others, so that failures have these headers, too.
        ResponseHeaders(has_origins=bool(deps.settings.allowed_origins)),
        *cors(deps.settings.allowed_origins),
        # Before all that may fail, so that each failure can be found in the log by request ID.
        RequestId(),
        # Before anything that reads rows: it determines whose rows are visible.
        Access(deps.store, deps.hasher, limiter=deps.limiter),
        # After access: only authenticated callers learn which parameters exist.
        Parameters(),
        # Before anything that reads a body: a peer may send it for as long as it likes.
        Transfers(deps.places),
        # After everything that may refuse a request: a refused request was never started.
        Idempotency(deps.store, lease_s=deps.settings.lease_s),
        # After idempotency: a replayed answer does not need quota, even if it is used up by now.
        deps.quota,
    ]
    if tracing.is_on():
        # Outermost, so that a trace covers the whole request.
        middleware.insert(0, Traces())
    # A registry per application, not the global one of the library.
    registry = CollectorRegistry()
    registry.register(ProcessMetrics("api", deps.store))
    if deps.settings.in_memory_broker:
        # Otherwise the scheduler exposes this metric.
        registry.register(WorkDue(deps.store))
    app = exchange.App(
        middleware=middleware,
        listeners=_listeners(deps, registry),
        # The guard exists in processes of the product's own server.
        ends_unread=deps.guard is not None,
    )
    problems.install(app)
    table = routes(deps, registry=registry)
    operations.check(table)
    for template, resource in table.items():
        app.add_route(template, resource)
    return app


def _listeners(deps: Deps, registry: CollectorRegistry) -> list[Listener]:
    """Return the listeners that are called for each request and its answer."""
    listeners: list[Listener] = [HttpMetrics(registry)]
    if deps.settings.has_access_log:
        listeners.append(AccessLog())
    if deps.recorder is not None:
        registry.register(deps.recorder)
        listeners.append(deps.recorder)
    if deps.guard is not None:
        registry.register(deps.guard)
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
    blobs = Blobs.of(settings, waits=patience.OF_REQUESTS)
    return serving_app(settings, blobs=blobs, publisher=publisher)


def serving_app(
    settings: Settings, *, blobs: Blobs, publisher: Publisher
) -> falcon.App[falcon.Request, falcon.Response]:
    """Build the application of a server process, with its threads, which run until it exits."""
    # Statements of requests end in time for an answer.
    options = replace(
        settings.connection_options("clamor-api"),
        statement_timeout_s=settings.api_statement_timeout_s,
    )
    store = Store(settings.database_url, pool_size=settings.api_pool_size, options=options)
    recorder = RequestLog(store)
    limiter = RateLimiter(store, per_s=settings.rate_limit_per_s, burst_s=settings.rate_burst_s)
    limits = ConnectionLimits(
        total=settings.connections, per_address=settings.connections_per_address
    )
    guard = ConnectionGuard(limits)
    limiter.start()
    guard.start()
    for thread in (recorder, limiter, guard):
        atexit.register(thread.close)
    app = create_app(
        Deps(
            settings=settings,
            store=store,
            blobs=blobs,
            publisher=publisher,
            recorder=recorder,
            limiter=limiter,
            guard=guard,
            stopping=shutdown.at_signal(),
        )
    )
    if settings.probe_address is not None:
        probe_listener.start(_only_probes(app), settings.probe_address)
    return app


def _only_probes(app: Application) -> Application:
    """Return the application with every other route missing."""

    def answer(env: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if env["PATH_INFO"] in exchange.PROBES:
            return app(env, start_response)
        status = HTTPStatus.NOT_FOUND
        start_response(f"{status.value} {status.phrase}", [("Content-Length", "0")])
        return []

    return answer


#: Concurrent requests of one server process besides its transfers and streams, which have threads
#: of their own and need a connection only briefly.
SERVER_THREADS = 16
