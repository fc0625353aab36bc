"""OpenTelemetry traces, from the request that created work to the runs of its actors.

The context of the request is stored in the row that it created (``traceparent`` of W3C Trace
Context), not in a message: a message does not determine the row, and it may be lost. A worker that
claims the row continues its trace, even after a retry.

Without an endpoint nothing is traced, at no cost.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from opentelemetry import context, trace
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

    from db.settings import Settings

#: How long an export may take before its spans are dropped. A stopping process waits for it.
EXPORT_TIMEOUT_S = 5.0

_propagator = TraceContextTextMapPropagator()


def setup(settings: Settings, *, service: str) -> TracerProvider | None:
    """Send this process's traces to the endpoint of the settings. Called once, after any fork.

    The caller shuts the provider down at the end, which sends pending spans. Return None without
    an endpoint.
    """
    if not settings.otlp_endpoint:
        return None
    # Imported here, so that a process without tracing does not load them.
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    exporter = OTLPSpanExporter(
        endpoint=f"{settings.otlp_endpoint.rstrip('/')}/v1/traces", timeout=EXPORT_TIMEOUT_S
    )
    provider = TracerProvider(resource=Resource.create({"service.name": service}))
    provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return provider


def is_on() -> bool:
    """Whether this process traces."""
    return not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


def current() -> str | None:
    """Return the ``traceparent`` of the current span, to store in a row; None if there is none."""
    carrier: dict[str, str] = {}
    _propagator.inject(carrier)
    return carrier.get("traceparent")


def started(
    name: str, *, parent: str | None, kind: SpanKind, attributes: Mapping[str, Any]
) -> Span:
    """Start a span. The caller ends it."""
    carrier = {} if parent is None else {"traceparent": parent}
    return trace.get_tracer("clamor").start_span(
        name,
        context=_propagator.extract(carrier, context.Context()),
        kind=kind,
        attributes={key: _told(value) for key, value in attributes.items() if value is not None},
    )


def end(span: Span, *, failed: str | None = None, **attributes: Any) -> None:
    """End a span, with more attributes and its status."""
    for key, value in attributes.items():
        if value is not None:
            span.set_attribute(key, _told(value))
    if failed is not None:
        span.set_status(Status(StatusCode.ERROR, failed))
    span.end()


def _told(value: Any) -> Any:
    return value if isinstance(value, bool | int | float | str) else str(value)
