"""``/v1/reports``: daily reports.

Requesting a report changes nothing but the report, so it needs the same scope as reading one.
"""

from __future__ import annotations

import uuid
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import falcon
from sqlalchemy.orm import Session

from actors.messaging.messages import GenerateDailyReport
from actors.observability import tracing
from db.blobs.errors import BlobMissing
from db.queries import deletion_queries, report_queries, session_queries
from db.store import Store
from db.tables.reports import DailyReport
from services.api.common.errors import NotFinished
from services.api.common.parameters import is_zone
from services.api.reports.schemas import ListedReport, NewReport, Report, ReportPage, ReportQuery
from services.http import idempotency, responses
from services.http.access import ADMIN, owner, principal
from services.http.caller_errors import MissingScope
from services.http.errors import FieldError
from services.http.lists import Listed, Part, listing
from services.http.not_found import NotFound, or_404
from services.http.operations import body_of, operation
from services.http.request_errors import InvalidBody
from services.http.resource import Resource
from services.http.responses import answer

SCOPE = "reports:read"
#: The page contains a stricter policy, which names its style by hash; this one applies regardless
#: of the contents of the page.
POLICY = "; ".join(
    (
        "default-src 'none'",
        "img-src data:",
        "style-src 'unsafe-inline'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "sandbox",
    )
)
HEADERS = (
    ("Content-Security-Policy", POLICY),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Referrer-Policy", "no-referrer"),
    ("Cache-Control", "private, no-cache"),
)


class ReportList(Resource):
    """``/v1/reports``."""

    @listing(scope=SCOPE, query=ReportQuery, answer_type=ReportPage, orders=report_queries.ORDERS)
    def on_get(
        self, tx: Session, asked: ReportQuery, part: Part, owner: uuid.UUID | None
    ) -> Listed:
        """List reports, newest first by default."""
        page = report_queries.reports(tx, owner=owner, day=asked.day, **part)
        return Listed(page, lambda row: ListedReport.listed(row[0], is_stale=row.is_stale))

    @operation(
        scope=SCOPE,
        body=NewReport,
        answer=ListedReport,
        status=202,
    )
    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Request the report of a day, or update an existing one. There is one report per day, time
        zone and user; requesting a report that is being generated changes nothing. The answer does
        not include the contents of the report.
        """
        asked = body_of(req, NewReport)
        caller = principal(req)
        if asked.all_users and not caller.is_admin:
            raise MissingScope(f"a report on all users requires a key with the scope {ADMIN}")
        with self.deps.store.transaction() as tx:
            starts_at, ends_at = _bounds(asked, now=session_queries.clock(tx))
            report_id = report_queries.ask_for_report(
                tx,
                id=idempotency.new_id(req),
                day=asked.day,
                time_zone=asked.time_zone,
                user_id=None if asked.all_users else caller.user_id,
                starts_at=starts_at,
                ends_at=ends_at,
                traceparent=tracing.current(),
            )
        self.deps.publisher.send(GenerateDailyReport(report_id=report_id))
        self.replay(req, resp, report_id)

    def replay(self, req: falcon.Request, resp: falcon.Response, made_id: uuid.UUID) -> None:
        """Answer with the report that this request, or an earlier attempt of it, created."""
        # Without the contents: the answer to a POST is stored and replayed to any key of the user,
        # including keys that may not read reports of all users.
        row, is_stale = _get_or_404(self.deps.store, made_id, owner=owner(req))
        listed = ListedReport.listed(row, is_stale=is_stale)
        answer(resp, listed, status=202, location=f"/v1/reports/{row.id}")


class ReportItem(Resource):
    """``/v1/reports/{report_id}``."""

    @operation(scope=SCOPE, answer=Report, also={304: None}, problems=(NotFound.of("report"),))
    def on_get(self, req: falcon.Request, resp: falcon.Response, report_id: uuid.UUID) -> None:
        """Return a report: its state and progress, its contents, and whether these are stale."""
        row, is_stale = _get_or_404(self.deps.store, report_id, owner=owner(req))
        responses.conditional(req, resp, Report.of(row, is_stale=is_stale))

    @operation(scope=SCOPE, status=204, problems=(NotFound.of("report"),))
    def on_delete(self, req: falcon.Request, resp: falcon.Response, report_id: uuid.UUID) -> None:
        """Delete a report with its page. It can be requested again while its sessions are stored;
        a report in progress is stopped.
        """
        with self.deps.store.transaction() as tx:
            removed = deletion_queries.remove_report(tx, report_id, owner=owner(req))
            or_404(removed, "report", report_id)
        resp.status = falcon.HTTP_204


class ReportHtml(Resource):
    """``GET /v1/reports/{report_id}/html``."""

    @operation(
        scope=SCOPE,
        media=falcon.MEDIA_HTML,
        problems=(NotFound.of("report"), NotFinished),
    )
    def on_get(self, req: falcon.Request, resp: falcon.Response, report_id: uuid.UUID) -> None:
        """Return a report as an HTML page with charts. The page is a single file without scripts
        and loads nothing from other addresses. While the report is being updated, the previous
        version is returned.
        """
        for _ in range(2):
            row, _ = _get_or_404(self.deps.store, report_id, owner=owner(req))
            key = row.html_key
            if key is None:
                raise NotFinished("the report is not ready yet")
            try:
                resp.data = self.deps.blobs.get(key)
            except BlobMissing:
                # An update replaced the page in the meantime: read the row again.
                continue
            resp.content_type = falcon.MEDIA_HTML
            resp.set_headers(HEADERS)
            return
        raise NotFinished("the page is no longer stored: request the report again")


def _get_or_404(
    store: Store, report_id: uuid.UUID, *, owner: uuid.UUID | None
) -> tuple[DailyReport, bool]:
    """Return a report and whether it is stale; raises :class:`NotFound`."""
    with store.reading() as tx:
        return or_404(report_queries.get_report(tx, report_id, owner=owner), "report", report_id)


def _bounds(asked: NewReport, *, now: datetime) -> tuple[datetime, datetime]:
    """Return the start and end of the requested day; raises :class:`InvalidBody`."""
    if not is_zone(asked.time_zone):
        raise _refused("time_zone", "must be an IANA name, such as Europe/Berlin")
    local = ZoneInfo(asked.time_zone)
    try:
        begin, end = (_midnight(day, local) for day in (asked.day, asked.day + timedelta(days=1)))
    except OverflowError:
        raise _refused("day", "is out of range") from None
    if begin > now:
        raise _refused("day", "has not begun yet")
    if begin == end:
        raise _refused("day", f"does not exist in {asked.time_zone}")
    return begin, end


def _midnight(day: date, local: ZoneInfo) -> datetime:
    return datetime.combine(day, time(), local).astimezone(UTC)


def _refused(field: str, detail: str) -> InvalidBody:
    return InvalidBody.of([FieldError(field=field, detail=detail)])
