"""Daily reports."""

from __future__ import annotations

import uuid
from datetime import date, datetime

from services.client.wire.tasks import AsyncTask


class ListedReport(AsyncTask, kw_only=True):
    """A report without its contents: ``pending``, then ``completed`` or ``failed``."""

    day: date
    time_zone: str
    user_id: uuid.UUID | None
    starts_at: datetime
    ends_at: datetime
    made_at: datetime | None
    is_stale: bool


class Report(ListedReport, kw_only=True):
    """A report: ``pending``, then ``completed`` or ``failed``."""

    report: dict[str, object] | None
