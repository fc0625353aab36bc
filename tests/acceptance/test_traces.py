"""One trace from a caller's request through every actor that processes its recording."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from db.settings import Settings
from tests.support import recordings
from tests.support.accounts import ADMIN_KEY, bearer
from tests.support.cluster import Cluster, eventually
from tests.support.collector import collector

pytestmark = pytest.mark.acceptance

TRACE_ID, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
ACTORS = (
    "process_audio_file",
    "split_recording",
    "detect_span",
    "aggregate_session",
    "analyze_session_data",
)


def test_a_trace_goes_on_across_processes(rabbit_settings: Settings, tmp_path: Path) -> None:
    with collector() as traces, Cluster(rabbit_settings, tmp_path) as cluster:
        # Spans are sent in batches, by default every five seconds.
        cluster.env |= {
            "OTEL_EXPORTER_OTLP_ENDPOINT": traces.url,
            "OTEL_BSP_SCHEDULE_DELAY": "100",
        }
        cluster.worker()
        with cluster.api() as client:
            posted = httpx.post(
                f"{client.url}/v1/sessions",
                content=recordings.encode(recordings.demo()[: 2 * recordings.RATE_HZ]),
                headers=bearer(ADMIN_KEY)
                | {
                    "Content-Type": "audio/flac",
                    "traceparent": f"00-{TRACE_ID}-{CALLER}-01",
                },
            )
            assert posted.status_code == 202
            client.wait(client.session(posted.json()["id"]))
            httpx.get(f"{client.url}/v1/nothing")
            eventually(
                lambda: {"GET (unknown)", *ACTORS} <= {span.name for span in traces.spans},
                what="every span",
            )
    ours = {span.name: span for span in traces.spans if span.trace_id == TRACE_ID}
    request = ours["POST /v1/sessions"]
    assert (request.service, request.parent_id) == ("clamor-api", CALLER)
    assert request.attributes["http.response.status_code"] == 202
    assert request.attributes["request_id"] == posted.headers["x-request-id"]
    for actor in ACTORS:
        span = ours[actor]
        assert (span.service, span.parent_id) == ("clamor-worker", request.span_id)
        assert span.attributes["session_id"] == posted.json()["id"]
        assert (span.attributes["result"], span.failed) == ("done", False)
    # A request without a traceparent starts a new trace.
    [other] = [span for span in traces.spans if span.name == "GET (unknown)"]
    assert other.trace_id != TRACE_ID
    assert not other.parent_id
    assert not [span for span in traces.spans if "/health" in span.name]
