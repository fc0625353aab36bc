"""``generate_daily_report``: write the report of a day to its row and as a page."""

from __future__ import annotations

import uuid
from datetime import UTC, timedelta
from functools import partial

import msgspec
from sqlalchemy import func

from actors.analytics import report_figures, report_page
from actors.execution import runner
from actors.execution.failures import still_there
from actors.execution.lease import Lease
from actors.execution.progress import Bar
from actors.execution.runtime import Runtime
from actors.messaging.messages import GenerateDailyReport, StartDailyReports
from actors.scheduling import job_runs
from actors.scheduling.job_runs import ScheduledRun
from actors.science.summaries import local_day
from actors.science.summaries.local_day import Day
from db.blobs.keys import report_key
from db.queries import report_queries
from db.queries.model_queries import JobWork
from db.queries.report_queries import ReportDone
from db.queue import claims
from db.tables.documents.job_results import StartReportsResult
from db.tables.reports import DailyReport

#: The time zone of scheduled reports: that of the schedule.
CLOCK_ZONE = "UTC"


def generate_daily_report(runtime: Runtime, nudge: GenerateDailyReport) -> None:
    """Generate a report, replacing the previous one."""
    work = JobWork(job=DailyReport, id=nudge.report_id)
    runner.run(runtime, nudge, partial(claims.this, work), partial(_report, runtime))


def start_daily_reports(runtime: Runtime, nudge: StartDailyReports) -> None:
    """Request yesterday's reports: the installation's, and that of each user with sessions."""
    job_runs.run(runtime, nudge, _start)


def _start(run: ScheduledRun) -> StartReportsResult:
    yesterday = run.slot.astimezone(UTC).date() - timedelta(days=1)
    its = local_day.day_of(yesterday, CLOCK_ZONE)
    with run.runtime.store.transaction() as tx:
        ids = report_queries.start_reports(
            tx, yesterday, CLOCK_ZONE, starts_at=its.begin, ends_at=its.end
        )
    # If the process dies before this, recovery finds the rows.
    run.runtime.publisher.send(*(GenerateDailyReport(report_id=each) for each in ids))
    return StartReportsResult(day=yesterday.isoformat(), reports=len(ids))


def _report(runtime: Runtime, work: JobWork) -> runner.Task:
    def perform(lease: Lease) -> runner.Result:
        bar = Bar(runtime, work, lease)
        bar.tell(0.0, "reading")
        with runtime.store.transaction() as tx:
            # All statements must see the same rows.
            tx.connection(execution_options={"isolation_level": "REPEATABLE READ"})
            row = still_there(tx.get(DailyReport, work.id))
            whole, before = days(row)
            made_from = report_queries.sessions_version(tx, row)
            found = report_figures.ask(tx, row.user_id, whole, before)
        bar.tell(0.5, "summing up")
        report = report_figures.document(found, whole, before)
        bar.tell(0.7, "drawing")
        page = report_page.page(report, everybody=row.user_id is None)
        key = lease.own(report_key(work.id, uuid.uuid4()))
        runtime.blobs.put(key, page)
        values = ReportDone(
            percent=100,
            stage="done",
            report=msgspec.to_builtins(report),
            made_from=made_from,
            made_at=func.clock_timestamp(),
            html_key=key,
        )
        return runner.Result(runner.move_on(work, to="completed", values=values))

    return runner.Task(name="report", work=work, perform=perform, give_up=runner.fail(work))


def days(row: DailyReport) -> tuple[Day, list[Day]]:
    """Return the day of a report, and those of the seven days before that exist in its zone."""
    before = []
    for back in range(7, 0, -1):
        try:
            before.append(local_day.day_of(row.day - timedelta(days=back), row.time_zone))
        except (local_day.NoSuchDay, OverflowError):
            continue
    return local_day.day_of(row.day, row.time_zone), before
