"""``GET /v1/usage``: what a user used, and what is left."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from typing import Annotated, Any

import falcon
import msgspec

from actors.facts import rounding
from db.queries import account_queries, request_queries, session_queries, usage_limit_queries
from db.store import Store
from services.http.access import principal
from services.http.errors import FieldError, InvalidParameter, UserNotFound
from services.http.operations import operation, query_of
from services.http.quotas import Quota
from services.http.responses import answer

#: Months of audio that are told.
MOST_MONTHS = 12
#: The longest period of which requests are told: a million of them took 0.4 s to add up.
LONGEST_DAYS = 31

Moment = Annotated[datetime, msgspec.Meta(tz=True)]


class UsageQuery(msgspec.Struct, kw_only=True):
    """Whose usage is asked for, and of which time."""

    #: Somebody else's, for administrators; the caller's own unless given.
    user_id: uuid.UUID | None = None
    #: The requests' period: from ``since``, a day before ``until`` unless given,
    since: Moment | None = None
    #: to ``until``, now unless given. At most 31 days.
    until: Moment | None = None


class MonthUsage(msgspec.Struct, kw_only=True):
    """What was analysed of the recordings that were posted in a calendar month (UTC)."""

    #: Such as ``2026-03``.
    month: str
    audio_s: float
    sessions: int


class KeyUsage(msgspec.Struct, kw_only=True):
    """What one key asked for in the period."""

    key_id: str
    #: Null if there is no such key any more.
    name: str | None
    requests: int
    #: Of these, those that were answered with 400 or above.
    errors: int
    bytes_in: int
    bytes_out: int


class Usage(msgspec.Struct, kw_only=True):
    """What a user used, and what is left."""

    user_id: uuid.UUID
    #: Seconds of audio that may be analysed of what is posted in a month; null for any number.
    limit_s: float | None
    #: Of these, the ones that are used this month.
    used_s: float
    #: When the next month begins.
    renews_at: datetime
    #: The months with usage, the newest first; twelve at most.
    months: list[MonthUsage]
    since: datetime
    until: datetime
    #: The keys that made requests in the period; who made most comes first.
    keys: list[KeyUsage]


class UsageItem:
    """``GET /v1/usage``."""

    def __init__(self, store: Store, quota: Quota) -> None:
        self._store = store
        self._quota = quota

    @operation(
        scope="sessions:read", query=UsageQuery, answer=Usage,
        problems=(InvalidParameter, UserNotFound),
    )  # fmt: skip
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Seconds of audio by month, and requests by key. A request is there a second later."""
        asked = query_of(req, UsageQuery)
        caller = principal(req)
        user_id = asked.user_id or caller.user_id
        with self._store.transaction() as db:
            user = account_queries.get_user(db, user_id)
            if user is None or not (caller.is_admin or user_id == caller.user_id):
                raise UserNotFound(f"no user has the id {user_id}")
            since, until = _period(asked, now=session_queries.clock(db))
            used_s, renews_at = usage_limit_queries.used_this_month(db, user_id)
            months = usage_limit_queries.months_of(db, user_id, limit=MOST_MONTHS)
            keys = request_queries.usage_of_keys(db, user_id, since=since, until=until)
        told = Usage(
            user_id=user_id,
            limit_s=self._quota.limit_s(user.max_audio_s_per_month),
            used_s=rounding.seconds(used_s),
            renews_at=renews_at,
            months=[
                MonthUsage(
                    month=f"{row.month:%Y-%m}",
                    audio_s=rounding.seconds(row.audio_s),
                    sessions=row.sessions,
                )
                for row in months
            ],
            since=since,
            until=until,
            keys=[_key_usage(row) for row in keys],
        )
        answer(resp, told)


def _period(asked: UsageQuery, *, now: datetime) -> tuple[datetime, datetime]:
    """The period that is asked for; raises :class:`InvalidParameter`."""
    until = asked.until or now
    try:
        since = asked.since or until - timedelta(days=1)
        is_fit = timedelta(0) < until - since <= timedelta(days=LONGEST_DAYS)
    except OverflowError:
        is_fit = False
    if not is_fit:
        told = f"it must lie before 'until', by {LONGEST_DAYS} days at most"
        raise InvalidParameter.of([FieldError(field="since", detail=told)])
    return since, until


def _key_usage(row: Any) -> KeyUsage:
    return KeyUsage(
        key_id=row.key_id, name=row.name, requests=row.requests, errors=row.errors,
        bytes_in=int(row.bytes_in), bytes_out=int(row.bytes_out),
    )  # fmt: skip
