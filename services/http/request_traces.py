"""Trace each request; the trace continues through the work that the request creates."""

from __future__ import annotations

import falcon
from opentelemetry import context, trace
from opentelemetry.trace import SpanKind

from actors.observability import tracing

#: Polled by the platform every few seconds; traces of these would bury all others.
UNTRACED = ("/health/", "/metrics")


class Traces:
    """Middleware that records one span per request, within the caller's ``traceparent``."""

    def process_request(self, req: falcon.Request, _resp: falcon.Response) -> None:
        """Start the span and make it the current one of this thread."""
        if req.path.startswith(UNTRACED):
            return
        span = tracing.started(
            f"{req.method} (unknown)",
            parent=req.get_header("traceparent"),
            kind=SpanKind.SERVER,
            attributes={"http.request.method": req.method},
        )
        req.context.span = span
        req.context.span_token = context.attach(trace.set_span_in_context(span))

    def process_response(
        self, req: falcon.Request, resp: falcon.Response, _resource: object, _succeeded: bool
    ) -> None:
        """Name the span after its route and end it. A streamed body is not part of it."""
        span = getattr(req.context, "span", None)
        if span is None:
            return
        context.detach(req.context.span_token)
        if req.uri_template is not None:
            span.update_name(f"{req.method} {req.uri_template}")
        tracing.end(
            span,
            failed=f"{resp.status_code}" if resp.status_code >= 500 else None,
            **{
                "http.route": req.uri_template,
                "http.response.status_code": resp.status_code,
                "request_id": getattr(req.context, "request_id", None),
            },
        )
