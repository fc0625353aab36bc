"""One run, from the quiet run to the verdict."""

from __future__ import annotations

import random
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.chaos import faults, verdict
from tests.chaos.hostile import HostileCaller
from tests.chaos.injector import Injector
from tests.chaos.stream import Recording, Stream, make, post
from tests.chaos.world import World, await_ready, world
from tests.support import accounts, servers
from tests.support.cluster import eventually

#: The tables to save after a failed run.
TABLES = ("audio_sessions", "session_spans", "processing_metrics", "noise_models")
QUIET_S = 240.0


@dataclass
class Report:
    """The results of a run."""

    seed: int
    passed: bool = False
    store: str = ""
    recordings: int = 0
    sessions: dict[str, int] = field(default_factory=dict)
    faults: dict[str, int] = field(default_factory=dict)
    #: What the hostile caller sent, by kind.
    hostile: dict[str, int] = field(default_factory=dict)
    not_injected: dict[str, str] = field(default_factory=dict)
    restarts: dict[str, int] = field(default_factory=dict)
    tries: dict[str, int] = field(default_factory=dict)
    runs: dict[str, int] = field(default_factory=dict)
    dead_letters: int = 0
    settled_s: float | None = None
    took_s: float = 0.0
    complaints: list[str] = field(default_factory=list)
    #: Why the run could not start: a server that is not available on this machine.
    unavailable: str | None = None
    #: The folder with the logs of a failed run.
    kept: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The report as plain data."""
        return asdict(self)


def run(
    *, seed: int, minutes: float, limit: int | None, is_quick: bool, full_s: float | None
) -> Report:
    """Run once. The report contains all errors; the logs of a failed run are kept."""
    started = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix=f"clamor-chaos-seed-{seed}-"))
    # The first draw of a seed chooses the blob store.
    on_s3 = random.Random(seed).random() < 0.5
    report = Report(seed=seed, store="S3 server" if on_s3 else "folder")
    say(f"seed {seed}: blobs in a{'n' if on_s3 else ''} {report.store}, logs in {folder}")
    try:
        with world(folder, on_s3=on_s3, is_quick=is_quick) as opened:
            try:
                _through(opened, report, minutes=minutes, limit=limit, full_s=full_s)
            finally:
                if report.complaints or sys.exc_info()[0]:
                    _keep(opened)
    except servers.ServerUnavailable as reason:
        report.unavailable = str(reason)
        report.complaints.append(report.unavailable)
    except Exception as error:
        traceback.print_exc()
        report.complaints.append(f"{type(error).__name__}: {error}")
    report.passed = not report.complaints
    report.took_s = time.monotonic() - started
    if report.passed:
        shutil.rmtree(folder)
    else:
        report.kept = str(folder)
    return report


def say(line: str) -> None:
    """Print a line at once."""
    print(line, flush=True)


def _through(
    opened: World, report: Report, *, minutes: float, limit: int | None, full_s: float | None
) -> None:
    report.not_injected = faults.impossible(opened)
    for name, reason in report.not_injected.items():
        say(f"NOT INJECTED in this run: {name}: {reason}")
    distinct = make()
    expected = _quiet_run(opened, distinct)
    stream = Stream(opened, distinct, seed=report.seed, limit=limit)
    began = time.monotonic()
    injector = Injector(
        opened, report.seed, clock=lambda: time.monotonic() - began, say=say, full_s=full_s
    )
    hostile = HostileCaller(opened.client.url)
    hostile.start()
    stream.start()
    injector.start()
    while not stream.done and not injector.broken and time.monotonic() < began + 60 * minutes:
        time.sleep(0.1)
    injector.stop()
    hostile.stop()
    report.hostile = dict(hostile.sent)
    say(f"{time.monotonic() - began:6.1f} s  the faults stop")
    stream.stop()
    report.recordings, report.tries = len(distinct) + stream.posted, stream.tries
    report.faults = dict(Counter(entry.name for entry in injector.injected))
    for error in injector.broken + stream.broken:
        traceback.print_exception(error)
        report.complaints.append(f"the run itself failed: {type(error).__name__}: {error}")
    try:
        report.settled_s = verdict.settle(opened, say=say)
    finally:
        report.restarts = dict(opened.supervisor.restarts)
        report.sessions = dict(verdict.counted(opened))
        report.runs = dict(verdict.runs(opened))
        report.dead_letters = verdict.dead_letters(opened)
    await_ready(opened)
    report.complaints += verdict.complaints(opened, expected)


def _quiet_run(opened: World, distinct: dict[str, Recording]) -> dict[str, verdict.Answer]:
    """Post each recording once, without faults; return the answers by file name."""
    started = time.monotonic()
    with httpx.Client(base_url=opened.client.url, timeout=60.0, headers=accounts.bearer()) as http:
        for name, recording in distinct.items():
            post(http, name, recording.content, on_failure=_not_quiet)

    def settled() -> bool:
        return not opened.rows(verdict.UNFINISHED)

    eventually(settled, timeout_s=QUIET_S, what="the quiet run")
    expected = {name: answer for name, _session, answer in verdict.answers(opened)}
    assert set(expected) == set(distinct)
    states = Counter(answer[0] for answer in expected.values())
    events = sum(len(answer[-1] or ()) for answer in expected.values())
    assert set(states) == {"completed", "partial", "failed"}, states
    assert events, "nothing was detected, so nothing can be compared"
    say(
        f"quiet run: {len(expected)} recordings in {time.monotonic() - started:.1f} s, "
        f"{events} events, {dict(states)}"
    )
    return expected


def _not_quiet(reason: str) -> None:
    raise AssertionError(f"a post failed in the quiet run: {reason}")


def _keep(opened: World) -> None:
    """Save logs, keys and tables before the servers are gone."""
    for name, server in (("postgres", opened.postgres), ("rabbitmq", opened.rabbitmq)):
        for log in server.logs():
            if log.exists():
                shutil.copy(log, opened.folder / f"{name}-{log.name}")
    (opened.folder / "blobs.txt").write_text("\n".join(sorted(opened.store.keys())))
    for table in TABLES:
        rows = opened.table(f"{table} t", "to_jsonb(t) - 'scores'")
        (opened.folder / f"{table}.txt").write_text("\n".join(str(row) for (row,) in rows))
