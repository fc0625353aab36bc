"""Examples for operators of an installation, and of the documentation."""

from __future__ import annotations

from services.openapi.examples.example import Example

_METRICS = """\
# HELP clamor_sessions Sessions by state.
# TYPE clamor_sessions gauge
clamor_sessions{state="completed"} 128.0
"""

_PAGE = "<!doctype html>..."

EXAMPLES: dict[str, Example] = {
    "GET /": Example(
        answer={
            "name": "Clamor",
            "version": "0.1.0",
            "limits": {"max_upload_bytes": 2_147_483_648},
            "links": {"start_page": "/sessions", "sessions": "/v1/sessions", "docs": "/docs"},
        }
    ),
    "GET /health/live": Example(answer={"status": "ok", "checks": {}}),
    "GET /health/ready": Example(
        answer={"status": "ok", "checks": {"database": "ok", "blobs": "ok", "broker": "ok"}}
    ),
    "GET /metrics": Example(answer=_METRICS),
    "GET /docs": Example(answer=_PAGE),
    "GET /problems": Example(answer=_PAGE),
    "GET /problems/{name}": Example(answer=_PAGE),
    "GET /openapi.json": Example(answer={"openapi": "3.1.0", "info": {"title": "Clamor"}}),
}
