"""What ``/v1/reports`` takes and answers; see :mod:`services.api.sessions.schemas`."""

from __future__ import annotations

import uuid
from datetime import date, datetime
from operator import itemgetter
from typing import Annotated, Any

import msgspec

from db.tables.reports import DailyReport
from services.api.sessions import schemas
from services.api.sessions.list_schemas import ByTime
from services.http.cursors import Page


class NewReport(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A report to be made."""

    #: In the time zone; it must have begun there.
    day: date
    #: An IANA name: ``Europe/Berlin``.
    time_zone: Annotated[str, msgspec.Meta(max_length=64)] = "UTC"
    #: Whether it is of everybody's sessions, which is for administrators, or of the caller's own.
    all_users: bool = False


class ReportQuery(Page, kw_only=True):
    """Which reports are listed, and in which order."""

    #: Only those of this day.
    day: date | None = None
    #: By which field; with ``-`` the latest first.
    sort: ByTime = "-created_at"


class ListedReport(schemas.Task, kw_only=True):
    """A report without what it tells: ``pending``, then ``completed`` or ``failed``."""

    day: date
    time_zone: str
    #: Whose sessions it is of; null for everybody's.
    user_id: uuid.UUID | None
    #: When the day began and ended in the time zone.
    starts_at: datetime
    ends_at: datetime
    #: When what it tells was found out; null until it was made for the first time.
    made_at: datetime | None
    #: Whether it would tell something else now: the day had not ended when it was made, or a
    #: session of it was added, has ended or was removed since.
    is_stale: bool

    @classmethod
    def listed(cls, row: DailyReport, *, is_stale: bool) -> ListedReport:
        """The report of a row."""
        return ListedReport(**_shown(row), is_stale=is_stale)


class Report(ListedReport, kw_only=True):
    """A report: ``pending``, then ``completed`` or ``failed``."""

    #: What happened on the day, part by part as docs/analytics.md has it; null until it was made
    #: for the first time. While it is made anew it is the one of before.
    report: dict[str, Any] | None

    @classmethod
    def of(cls, row: DailyReport, *, is_stale: bool) -> Report:
        """The report of a row."""
        return Report(**_shown(row), is_stale=is_stale, report=_ordered(row.report))


class ReportPage(msgspec.Struct, kw_only=True):
    """A page of reports."""

    items: list[ListedReport]
    next_cursor: str | None


def _ordered(report: dict[str, Any] | None) -> dict[str, Any] | None:
    if report is None:
        return None
    detections = report["detections"]
    ordered = {
        name: schemas.most_events_first(detections[name], events=itemgetter("events"))
        for name in ("by_type", "by_group")
        # Reports of earlier releases have no groups.
        if name in detections
    }
    return report | {"detections": detections | ordered}


def _shown(row: DailyReport) -> dict[str, Any]:
    own = ("day", "time_zone", "user_id", "starts_at", "ends_at", "made_at")
    return schemas.task_of(row) | {name: getattr(row, name) for name in own}
