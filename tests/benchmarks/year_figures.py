"""Time queries and jobs with a year of sessions in the database: `make bench-year`.

A private database is filled (``year.py``), and everyday operations are timed: lists, a round of
recovery, the cleanup of a month while recordings arrive. Each part of the table is a function in
``PARTS``. On a busy machine only the ratios within one run are meaningful.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import statistics
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection
from typing import Any
from urllib.parse import quote

import falcon.testing
import psutil
import psycopg
from rich.console import Console
from rich.table import Table
from sqlalchemy import delete, func, select, text

from actors import recovery
from actors.analytics.report import generate_daily_report
from actors.execution.runtime import Runtime
from actors.messaging import broker, kinds
from actors.messaging.messages import (
    AnalyzeSession,
    CleanUpOldSessions,
    ExportSessionData,
    GenerateDailyReport,
    VacuumDatabase,
)
from actors.observability.logs import configure
from actors.scheduling import job_runs
from actors.science.summaries import local_day
from db.queries import (
    leftover_queries,
    queue_queries,
    report_queries,
    session_queries,
    span_queries,
)
from db.settings import Settings
from db.store import Store
from db.tables.session_results import SessionResult
from db.tables.sessions import AudioSession
from tests.benchmarks import year, year_plan
from tests.benchmarks.year_bench import MS, Bench, Line, bench_of, timed
from tests.support import accounts
from tests.support.clock import ask, findings
from tests.support.pipeline import handle

#: Number of repetitions of workers' jobs.
TIMES_MADE = 5
#: How long recordings arrive without other work, before and after the cleanup.
UNDISTURBED_S = 15.0
#: Pause between two recordings, and number of spans of each.
PAUSE_S, SPANS = 0.005, 5
#: Seconds between two checks whether an arriving recording waits for a lock.
LOOK_S = 0.02
MONTH = timedelta(days=30)
Part = Callable[[Bench], Iterator[Line]]


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench-year", description=__doc__)
    parser.add_argument("--sessions", type=int, default=50_000, help="(%(default)s)")
    parser.add_argument("--detections", type=int, default=5_000_000, help="(%(default)s)")
    parser.add_argument(
        "--only", choices=PARTS, action="append", help="only this part; may be repeated"
    )
    parser.add_argument("--database", help="a filled database, which is kept")
    options = parser.parse_args()
    plan = year_plan.Plan(
        until=datetime.now(UTC), n_sessions=options.sessions, n_detections=options.detections
    )
    title = f"a year: {plan.n_sessions:,} sessions, {plan.n_detections:,} detections"
    table = Table(title=title)
    for heading in ("what", "p50 ms", "p99 ms", "max ms", "note"):
        table.add_column(heading, justify="right" if "ms" in heading else "left")
    with bench_of(plan, url=options.database) as bench:
        for name in options.only or PARTS:
            bench.said.print(name)
            for line in PARTS[name](bench):
                figures = (line.p50_ms, line.p99_ms, line.max_ms)
                shown = ("" if figure is None else f"{figure:,.1f}" for figure in figures)
                table.add_row(line.what, *shown, line.note)
            table.add_section()
    Console().print(table)
    return 0


def lists(bench: Bench) -> Iterator[Line]:
    """Time the first page of 100 of lists with various filters, through the API."""
    until = bench.plan.until
    begin, end = (_shown(until - timedelta(days=days)) for days in (40, 39))
    a_day = f"created_from={begin}&created_to={end}"
    for client, who in ((bench.api, ""), (bench.admin, " (administrator)")):
        for path in (
            "/v1/sessions",
            "/v1/sessions?state=failed",
            "/v1/sessions?sort=-duration_s",
            "/v1/sessions?noise_type=siren_sweep&min_confidence=0.95",
            "/v1/sessions?min_confidence=0.9985",
            "/v1/detections?noise_type=dog_bark",
            "/v1/detections?sort=-heard_at",
        ):
            yield timed(f"GET {path}{who}", _asks(client, path))
        yield timed(f"GET /v1/sessions of a day{who}", _asks(client, f"/v1/sessions?{a_day}"))
        heard = f"heard_from={_shown(until - MONTH)}&heard_to={_shown(until)}"
        for by in ("hour", "type"):
            path = f"/v1/detections/summary?by={by}&time_zone=Europe/Berlin&{heard}"
            yield timed(f"GET /v1/detections/summary of a month by {by}{who}", _asks(client, path))
        at_site = "sort=heard_at&metadata=" + quote('{"site": "site-7"}')
        path = f"/v1/detections?heard_from={begin}&heard_to={end}&{at_site}"
        yield timed(f"GET /v1/detections of a day at one site{who}", _asks(client, path))
    with bench.runtime.store.reading() as tx:
        longest = tx.scalars(
            select(AudioSession.id)
            .join(AudioSession.result)
            .where(AudioSession.user_id == accounts.TEAM, AudioSession.summary.is_not(None))
            .order_by(SessionResult.duration_s.desc())
            .limit(1)
        ).one()
    yield timed("GET /v1/sessions/{id}", _asks(bench.api, f"/v1/sessions/{longest}"))
    path = f"/v1/sessions/{longest}/detections"
    yield timed("GET .../detections of the longest", _asks(bench.api, path))
    yield timed(
        "GET /v1/usage of a month", _asks(bench.api, f"/v1/usage?since={_shown(until - MONTH)}")
    )


def _shown(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%SZ}"


def _asks(client: falcon.testing.TestClient, path: str) -> Callable[[], object]:
    def action() -> None:
        answered = client.simulate_get(path)
        assert answered.status_code == 200, answered.text

    return action


def rounds(bench: Bench) -> Iterator[Line]:
    """Time the recurring queries of workers and metrics."""
    store = bench.runtime.store

    def round_of(ask_for: Callable[[Any], object]) -> Callable[[], object]:
        def action() -> None:
            with store.transaction() as tx:
                ask_for(tx)
                # Keep the data unchanged for the next run.
                tx.rollback()

        return action

    asked: dict[str, Callable[[Any], object]] = {
        "recovery: stalled work": lambda tx: recovery.take_stalled(tx, unnudged_s=30, limit=200),
        "recovery: missed slots": lambda tx: job_runs.fill_missed(tx, late_s=60),
        "recovery: sessions to tidy": lambda tx: leftover_queries.sessions_with_leftovers(
            tx, silent_after_s=7_200, limit=200
        ),
        "metrics: backlogs": kinds.backlogs,
        "metrics: unfinished": queue_queries.count_unfinished,
        "metrics: finished (each minute)": queue_queries.count_finished,
        "metrics: oldest unfinished": session_queries.oldest_unfinished_s,
    }
    for what, ask_for in asked.items():
        yield timed(what, round_of(ask_for))


def analyses(bench: Bench) -> Iterator[Line]:
    """Time the analyses of the longest session and a typical one, from message to commit."""
    with bench.runtime.store.reading() as tx:
        rows = tx.scalars(
            select(AudioSession)
            .join(AudioSession.result)
            .where(AudioSession.user_id == accounts.TEAM, AudioSession.state == "completed")
            .order_by(SessionResult.duration_s.desc())
        ).all()
    for row, which in ((rows[0], "the longest session"), (rows[len(rows) // 2], "a typical one")):
        assert row.summary is not None
        year.write_blobs(bench.runtime.blobs, [row])
        path = f"/v1/sessions/{row.id}/analysis"

        def make(path: str = path, session_id: uuid.UUID = row.id) -> None:
            asked = bench.api.simulate_post(path, json={"limits_db": {"LAeq": [55.0]}})
            assert asked.status_code == 202, asked.text
            handle(bench.runtime, AnalyzeSession(session_id=session_id))
            made = bench.api.simulate_get(path).json
            assert made["state"] == "completed", made

        note = f"{row.duration_s or 0:,.0f} s, {row.summary['events']:,} events"
        yield timed(f"analysis of {which}", make, times=TIMES_MADE, note=note)


def exports(bench: Bench) -> Iterator[Line]:
    """Time the export of a fifth of all events, a million by default, in a separate worker."""
    since = _shown(bench.plan.until - timedelta(days=bench.plan.days / 5))
    for format_ in ("parquet", "csv"):
        body = {"format": format_, "created_from": since}
        asked = bench.admin.simulate_post("/v1/exports", json=body)
        assert asked.status_code == 202, asked.text
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        working = context.Process(target=_export, args=(bench.settings, asked.json["id"], theirs))
        working.start()
        took_s, before, peak = ours.recv()
        working.join()
        made = bench.admin.simulate_get(f"/v1/exports/{asked.json['id']}").json
        assert made["state"] == "completed", made
        note = (
            f"{made['rows_written']:,} events, {made['size_bytes'] / 1e6:.0f} MB;"
            f" {(peak - before) / 1e6:.0f} MB of memory above rest ({before / 1e6:.0f})"
        )
        yield Line(what=f"export as {format_}", p50_ms=took_s * MS, note=note)


def _export(settings: Settings, export_id: str, told: Connection) -> None:
    """Write an export, and measure its memory."""
    configure(settings.log_level)
    runtime = Runtime(settings, broker.setup(settings))
    process = psutil.Process()
    before = process.memory_info().rss
    seen, ended = [before], threading.Event()

    def watch() -> None:
        while not ended.wait(LOOK_S / 2):
            seen.append(process.memory_info().rss)

    watching = threading.Thread(target=watch)
    watching.start()
    began = time.perf_counter()
    handle(runtime, ExportSessionData(export_id=uuid.UUID(export_id)))
    took_s = time.perf_counter() - began
    ended.set()
    watching.join()
    runtime.close()
    told.send((took_s, before, max(seen)))


def reports(bench: Bench) -> Iterator[Line]:
    """Time daily reports, by the actor that creates them each night, and the list of reports."""
    store = bench.runtime.store
    for zone, user_id, whose in (
        ("Europe/Berlin", accounts.TEAM, "one user"),
        ("Australia/Lord_Howe", None, "all users"),
    ):
        # Use a different day each time, to exclude caches.
        days_back = itertools.count(20)

        def make(zone: str = zone, user_id: Any = user_id, days_back: Any = days_back) -> None:
            date = (bench.plan.until - timedelta(days=next(days_back))).date()
            its = local_day.day_of(date, zone)
            with store.transaction() as tx:
                report_id = report_queries.ask_for_report(
                    tx,
                    id=uuid.uuid4(),
                    day=date,
                    time_zone=zone,
                    user_id=user_id,
                    starts_at=its.begin,
                    ends_at=its.end,
                )
            generate_daily_report(bench.runtime, GenerateDailyReport(report_id=report_id))
            with store.reading() as tx:
                found = report_queries.get_report(tx, report_id)
            assert found, "there is a row"
            assert found[0].state == "completed", found[0].last_error
            assert found[0].report, "the report has contents"
            assert not found[1], "nothing has changed since"

        yield timed(f"the report of a day, {whose}", make)
    yield timed("GET /v1/reports (administrator)", _asks(bench.admin, "/v1/reports"))


def cleanup(bench: Bench) -> Iterator[Line]:
    """Time the removal of the oldest month, by the actor that runs every week."""
    with bench.runtime.store.reading() as tx:
        oldest, now = tx.execute(
            select(func.min(SessionResult.finished_at), func.clock_timestamp())
        ).one()
        rows = tx.execute(
            select(AudioSession.recording_key, AudioSession.levels_key)
            .join(AudioSession.result)
            .where(SessionResult.finished_at < oldest + MONTH)
        ).all()
    for row in rows:
        for key in filter(None, row):
            bench.runtime.blobs.put(key, b"a blob")
    before = arrivals(bench, lambda: time.sleep(UNDISTURBED_S))
    yield before.line("a recording arrives, no other work")
    took_s: list[float] = []
    days = (now - oldest - MONTH) / timedelta(days=1)
    beside = arrivals(bench, lambda: took_s.append(_clean(bench, days, len(rows))))
    yield beside.line("a recording arrives, during cleanup")
    after = arrivals(bench, lambda: time.sleep(UNDISTURBED_S))
    yield after.line("a recording arrives, after cleanup")
    yield Line(what="cleanup of a month", p50_ms=took_s[0] * MS, note=f"{len(rows):,} sessions")


def _clean(bench: Bench, days: float, n_sessions: int) -> float:
    """Remove sessions older than a number of days; return the seconds that it took."""
    began = time.perf_counter()
    run = ask(bench.runtime, CleanUpOldSessions(), older_than_days=days)
    assert run.state == "completed", run.problem
    # More sessions may have become old enough between the query and the run.
    assert findings(run)["sessions"] >= n_sessions, run.result
    return time.perf_counter() - began


@dataclass(frozen=True)
class Arrivals:
    """The time to write each recording, and how often one was seen waiting for a lock."""

    taken_s: Sequence[float]
    n_waiting: int
    n_looks: int

    def line(self, what: str) -> Line:
        """Return these figures as a row of the table."""
        ordered = sorted(self.taken_s)
        return Line(
            what=what,
            p50_ms=statistics.median(ordered) * MS,
            p99_ms=ordered[int(0.99 * len(ordered))] * MS,
            max_ms=ordered[-1] * MS,
            note=f"{len(ordered):,} times; waited for a lock in {self.n_waiting} of"
            f" {self.n_looks:,} looks",
        )


def arrivals(bench: Bench, meanwhile: Callable[[], object]) -> Arrivals:
    """Let recordings arrive, written by a separate process, while ``meanwhile`` runs."""
    url = bench.settings.database_url
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    arriving = context.Process(target=_arrive, args=(url, theirs))
    arriving.start()
    pid = ours.recv()
    looks: list[bool] = []
    ended = threading.Event()
    looking = threading.Thread(target=_look, args=(url, pid, looks, ended))
    looking.start()
    try:
        ours.send("begin")
        meanwhile()
    finally:
        ours.send("end")
        taken_s = ours.recv()
        ended.set()
        looking.join()
        arriving.join()
    return Arrivals(taken_s, sum(looks), len(looks))


def _arrive(url: str, told: Connection) -> None:
    """Write recordings with their spans in sequence, until a message arrives."""
    store = Store(url, pool_size=1)
    with store.transaction() as tx:
        told.send(tx.execute(text("SELECT pg_backend_pid()")).scalar_one())
    told.recv()
    taken_s, ids = [], []
    while not told.poll():
        session_id = uuid.uuid4()
        began = time.perf_counter()
        with store.transaction() as tx:
            session_queries.add_session(
                tx,
                id=session_id,
                user_id=accounts.TEAM,
                file_name="street.flac",
                size_bytes=100_000,
                recording_key=f"sessions/{session_id}/recording",
            )
            spans = [(i, i * 960_000, (i + 1) * 960_000) for i in range(SPANS)]
            span_queries.add_spans(tx, span_queries.new_spans(session_id, spans))
        taken_s.append(time.perf_counter() - began)
        ids.append(session_id)
        time.sleep(PAUSE_S)
    with store.transaction() as tx:
        tx.execute(delete(AudioSession).where(AudioSession.id.in_(ids)))
    store.close()
    told.send(taken_s)


def _look(url: str, pid: int, looks: list[bool], ended: threading.Event) -> None:
    """Record repeatedly whether a connection waits for a lock of a row or a table."""
    with psycopg.connect(url, autocommit=True) as connection:
        while not ended.wait(LOOK_S):
            row = connection.execute(
                "SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = %s", [pid]
            ).fetchone()
            looks.append(bool(row and row[0]))


def vacuum(bench: Bench) -> Iterator[Line]:
    """Time the vacuum of all tables, by the actor that runs every week."""
    began = time.perf_counter()
    run = ask(bench.runtime, VacuumDatabase())
    assert run.state == "completed", run.problem
    yield Line(what="vacuum of all tables", p50_ms=(time.perf_counter() - began) * MS)


#: The parts of the table, in the order of measurement.
PARTS: dict[str, Part] = {
    "lists": lists,
    "rounds": rounds,
    "analyses": analyses,
    "reports": reports,
    "exports": exports,
    "cleanup": cleanup,
    "vacuum": vacuum,
}


if __name__ == "__main__":
    sys.exit(main())
