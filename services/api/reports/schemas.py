"""Requests and answers of ``/v1/reports``; see :mod:`services.api.common.schemas`."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import date, datetime
from operator import itemgetter
from typing import Annotated, Any

import msgspec

from db.tables.reports import DailyReport
from services.api.common.parameters import ByTime
from services.api.common.schemas import AsyncTask, most_events_first, task_of
from services.http.cursors import PageQuery


class NewReport(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A request for a report."""

    #: The day, which must have begun in the time zone.
    day: date
    #: An IANA time zone name, such as ``Europe/Berlin``.
    time_zone: Annotated[str, msgspec.Meta(max_length=64)] = "UTC"
    #: True for the sessions of all users (administrators only), false for those of the caller.
    all_users: bool = False


class ReportQuery(PageQuery, kw_only=True):
    """Filters and order of the list of reports."""

    #: Only reports of this day.
    day: date | None = None
    #: The field to sort by; ``-`` sorts descending.
    sort: ByTime = "-created_at"


class ListedReport(AsyncTask, kw_only=True):
    """A report without its contents: ``pending``, then ``completed`` or ``failed``."""

    day: date
    time_zone: str
    #: The user whose sessions the report covers; null for all users.
    user_id: uuid.UUID | None
    #: When the day begins in the time zone.
    starts_at: datetime
    #: When the day ends in the time zone.
    ends_at: datetime
    #: When the contents were computed; null before the first time.
    made_at: datetime | None
    #: Whether the contents may be out of date: the day had not ended when they were computed, or a
    #: session of that day was added, ended or was removed since.
    is_stale: bool

    @classmethod
    def listed(cls, row: DailyReport, *, is_stale: bool) -> ListedReport:
        """Convert a row to a report."""
        return ListedReport(**_shown(row), is_stale=is_stale)


class Report(ListedReport, kw_only=True):
    """A report: ``pending``, then ``completed`` or ``failed``."""

    #: The contents, as described in docs/analytics.md; null before they are first computed. While
    #: the report is being updated, these are the previous contents.
    report: dict[str, Any] | None

    @classmethod
    def of(cls, row: DailyReport, *, is_stale: bool) -> Report:
        """Convert a row to a report."""
        return Report(**_shown(row), is_stale=is_stale, report=_ordered(row.report))


class ReportPage(msgspec.Struct, kw_only=True):
    """A page of reports."""

    items: list[ListedReport]
    next_cursor: str | None


def _ordered(report: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if report is None:
        return None
    detections = report["detections"]
    ordered = {
        name: most_events_first(detections[name], events=itemgetter("events"))
        for name in ("by_type", "by_group")
    }
    return {**report, "detections": detections | ordered}


def _shown(row: DailyReport) -> dict[str, Any]:
    own = ("day", "time_zone", "user_id", "starts_at", "ends_at", "made_at")
    return task_of(row) | {name: getattr(row, name) for name in own}
