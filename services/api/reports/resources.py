"""``/v1/reports``: daily reports.

Requesting a report changes nothing but the report, so it needs the same scope as reading one.
"""

from __future__ import annotations

import uuid
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import falcon

from actors.messaging.broker import Publisher
from actors.messaging.messages import GenerateDailyReport
from actors.observability import tracing
from db.blobs import BlobMissing, Blobs
from db.queries import report_queries, session_queries
from db.store import Store
from db.tables.reports import DailyReport
from services.api.reports.schemas import ListedReport, NewReport, Report, ReportQuery
from services.api.reports.schemas import ReportPage as PageOfReports
from services.api.sessions import options
from services.api.sessions.errors import NotFinished
from services.http import cursors, idempotency, responses
from services.http.access import ADMIN, owner, principal
from services.http.caller_errors import MissingScope
from services.http.errors import FieldError
from services.http.not_found import NotFound
from services.http.operations import body_of, operation, query_of
from services.http.request_errors import InvalidBody
from services.http.responses import answer
from services.http.server_errors import StoreUnavailable

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
    ("X-Content-Type-Options", "nosniff"),
    ("Cache-Control", "private, no-cache"),
)


class ReportList:
    """``/v1/reports``."""

    def __init__(self, store: Store, publisher: Publisher) -> None:
        self._store = store
        self._publisher = publisher

    @operation(scope=SCOPE, query=ReportQuery, answer=PageOfReports)
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """List reports, newest first by default."""
        asked = query_of(req, ReportQuery)
        order = report_queries.ORDERS[asked.sort]
        after = cursors.after(req, asked, order)
        with self._store.reading() as db:
            page = report_queries.reports(
                db, owner=owner(req), order=order, after=after, limit=asked.limit, day=asked.day
            )
        items = [ListedReport.listed(row[0], is_stale=row.is_stale) for row in page.rows]
        cursor = cursors.following(req, resp, asked, page.next)
        answer(resp, PageOfReports(items=items, next_cursor=cursor))

    @operation(
        scope=SCOPE,
        body=NewReport,
        answer=ListedReport,
        status=202,
        problems=(InvalidBody, MissingScope),
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
        with self._store.transaction() as db:
            starts_at, ends_at = _bounds(asked, now=session_queries.clock(db))
            report_id = report_queries.ask_for_report(
                db,
                id=idempotency.new_id(req),
                day=asked.day,
                time_zone=asked.time_zone,
                user_id=None if asked.all_users else caller.user_id,
                starts_at=starts_at,
                ends_at=ends_at,
                traceparent=tracing.current(),
            )
        self._publisher.send(GenerateDailyReport(report_id=report_id))
        self._answer(req, resp, report_id)

    def made(self, req: falcon.Request, resp: falcon.Response, made_id: uuid.UUID) -> bool:
        """Answer with the report that an earlier attempt of this request created, if it did."""
        try:
            self._answer(req, resp, made_id)
        except NotFound:
            return False
        return True

    def _answer(self, req: falcon.Request, resp: falcon.Response, report_id: uuid.UUID) -> None:
        # Without the contents: the answer to a POST is stored and replayed to any key of the user,
        # including keys that may not read reports of all users.
        row, is_stale = _found(self._store, report_id, owner=owner(req))
        resp.location = f"/v1/reports/{row.id}"
        answer(resp, ListedReport.listed(row, is_stale=is_stale), status=202)


class ReportItem:
    """``GET /v1/reports/{report_id}``."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @operation(scope=SCOPE, answer=Report, also={304: None}, problems=(NotFound.of("report"),))
    def on_get(self, req: falcon.Request, resp: falcon.Response, report_id: uuid.UUID) -> None:
        """Return a report: its state and progress, its contents, and whether these are stale."""
        responses.conditional(req, resp, load(self._store, report_id, owner=owner(req)))

    on_head = on_get


class ReportPage:
    """``GET /v1/reports/{report_id}/html``."""

    def __init__(self, store: Store, blobs: Blobs) -> None:
        self._store = store
        self._blobs = blobs

    @operation(
        scope=SCOPE,
        media=falcon.MEDIA_HTML,
        problems=(NotFound.of("report"), NotFinished, StoreUnavailable),
    )
    def on_get(self, req: falcon.Request, resp: falcon.Response, report_id: uuid.UUID) -> None:
        """Return a report as an HTML page with charts. The page is a single file without scripts
        and loads nothing from other addresses. While the report is being updated, the previous
        version is returned.
        """
        for _ in range(2):
            row, _ = _found(self._store, report_id, owner=owner(req))
            key = row.html_key
            if key is None:
                raise NotFinished("the report is not ready yet")
            try:
                resp.data = self._blobs.get(key)
            except BlobMissing:
                # An update replaced the page in the meantime: read the row again.
                continue
            resp.content_type = falcon.MEDIA_HTML
            resp.set_headers(HEADERS)
            return
        raise NotFinished("the page is no longer stored: request the report again")


def load(store: Store, report_id: uuid.UUID, *, owner: uuid.UUID | None) -> Report:
    """Return a report as the API shows it to its owner; raises :class:`NotFound`."""
    row, is_stale = _found(store, report_id, owner=owner)
    return Report.of(row, is_stale=is_stale)


def _found(
    store: Store, report_id: uuid.UUID, *, owner: uuid.UUID | None
) -> tuple[DailyReport, bool]:
    with store.reading() as db:
        found = report_queries.get_report(db, report_id, owner=owner)
    if found is None:
        raise NotFound.of("report")(f"no report has the ID {report_id}")
    return found


def _bounds(asked: NewReport, *, now: datetime) -> tuple[datetime, datetime]:
    """Return the start and end of the requested day; raises :class:`InvalidBody`."""
    if not options.is_zone(asked.time_zone):
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
