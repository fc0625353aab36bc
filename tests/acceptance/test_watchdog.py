"""A step stuck in native code costs its process, not the recording."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from actors.execution import failures, watchdog
from actors.execution.runtime import Runtime
from actors.messaging import broker
from db.settings import Settings
from tests.support import recordings
from tests.support.cluster import Cluster, Process, eventually
from tests.support.pipeline import session, span, split

pytestmark = pytest.mark.acceptance

#: Runs an endless block under a watchdog with a short deadline, in a separate process.
STUCK = """
import ctypes, sys
from actors.execution import watchdog
from actors.execution.run_log import recorded
from actors.observability.logs import configure

configure("INFO")
watchdog.GRACE_S = 0.5
with recorded("detect_span") as run, watchdog.Watchdog(leaves=True).over(run, 0.2):
    ctypes.{library}(None).sleep(60)
"""


def run_stuck(library: str) -> tuple[int, str]:
    ended = subprocess.run(
        [sys.executable, "-c", STUCK.format(library=library)],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return ended.returncode, ended.stderr


def test_native_code_that_lets_other_threads_run_is_left_with_a_critical_line() -> None:
    exit_code, said = run_stuck("CDLL")
    assert exit_code == watchdog.EXIT_CODE
    [line] = [json.loads(each) for each in said.splitlines()]
    assert (line["event"], line["actor"]) == ("actor_run", "detect_span")
    assert (line["result"], line["level"], line["leaves"]) == ("stuck", "critical", True)


def test_native_code_that_holds_the_lock_is_left_too_and_says_where_it_was() -> None:
    exit_code, said = run_stuck("PyDLL")
    assert exit_code == watchdog.EXIT_CODE
    assert 'File "<string>", line 10 in <module>' in said


def exit_code_of(worker: Process) -> int:
    eventually(lambda: worker.popen.poll() is not None, timeout_s=120, what="the worker's end")
    assert worker.popen.returncode is not None
    return worker.popen.returncode


def lines(worker: Process) -> list[dict[str, Any]]:
    found = [
        json.loads(each) for each in worker.log.read_text().splitlines() if each.startswith("{")
    ]
    return [each for each in found if each["event"] == "actor_run"]


@pytest.mark.slow
def test_a_stuck_span_is_left_run_again_and_given_up_with_its_reason(
    rabbit_settings: Settings, tmp_path: Path
) -> None:
    """The decoded audio is a pipe without a writer: opening it blocks in the kernel."""
    settings = replace(rabbit_settings, deadline_s=1.0)
    # A worker in this process, with a longer deadline, plans the spans.
    memory = replace(rabbit_settings, amqp_url="memory://", one_claim_s=0.0)
    runtime = Runtime(memory, broker.setup(memory))
    session_id = split(runtime, recordings.encode(recordings.demo()))
    pcm_key = session(runtime, session_id).pcm_key
    assert pcm_key is not None
    pcm = tmp_path / "blobs" / pcm_key
    pcm.unlink()
    os.mkfifo(pcm)

    with Cluster(settings, tmp_path) as cluster:
        reason = "it did not end within 1 s, and did not yield"
        # Not a third time: it would take as long.
        lost = failures.given_up("detect", attempts=2, reason=reason)
        for attempt, state, kept in ((1, "pending", reason), (2, "failed", str(lost))):
            worker = cluster.start("worker")
            assert exit_code_of(worker) == watchdog.EXIT_CODE
            stuck = [line for line in lines(worker) if line["result"] == "stuck"]
            assert [line["attempt"] for line in stuck] == [attempt]
            waiting = span(runtime, session_id, 0)
            assert (waiting.state, waiting.attempt) == (state, attempt)
            assert waiting.last_error == kept
        last = cluster.worker()
        eventually(
            lambda: session(runtime, session_id).finished_at is not None,
            timeout_s=60,
            what=f"the session's end; see {last.log}",
        )
        assert last.stop() == 0
    ended = session(runtime, session_id)
    runtime.close()
    assert ended.state == "failed"
    assert ended.problem is not None
    assert ended.problem["code"] == "nothing-heard"
    assert ended.problem["detail"].endswith(str(lost))
