"""``GET /v1/usage``: the usage and the quota of a user."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta

import falcon
import msgspec
from sqlalchemy.orm import Session

from actors.facts import rounding
from db.queries import account_queries, request_queries, session_queries, usage_limit_queries
from db.queries.request_queries import UsedKey
from services.api.common.parameters import Time
from services.http.access import principal
from services.http.errors import FieldError
from services.http.not_found import NotFound, or_404
from services.http.operations import operation, query_of
from services.http.request_errors import InvalidParameter
from services.http.resource import Resource
from services.http.responses import answer

#: Upper bound on the months in an answer.
MOST_MONTHS = 12
#: Longest period of request counts: 44,640 sums of a key that is always in use.
LONGEST_DAYS = 31


class UsageQuery(msgspec.Struct, kw_only=True):
    """The user and the period to report."""

    #: Another user, for administrators. Default: the caller.
    user_id: uuid.UUID | None = None
    #: Start of the period of the request counts, in whole minutes. Default: one day before
    #: ``until``.
    since: Time | None = None
    #: End of the period. Default: now. The period is at most 31 days.
    until: Time | None = None


class MonthUsage(msgspec.Struct, kw_only=True):
    """Audio analysed of the recordings uploaded in a calendar month (UTC)."""

    #: The month, such as ``2026-03``.
    month: str
    audio_s: float
    sessions: int


class KeyUsage(msgspec.Struct, kw_only=True):
    """Requests made with one key in the period."""

    key_id: str
    #: Null if the key no longer exists.
    name: str | None
    requests: int
    #: Requests answered with a status of 400 or above.
    errors: int
    bytes_in: int
    bytes_out: int


class LimitUse(msgspec.Struct, kw_only=True):
    """What a user has of a limit, and the most that it may have."""

    #: ``unfinished_sessions``, ``stored_bytes``, ``unfinished_exports``, ``unfinished_trainings``
    #: (and validations), ``uploads``, ``downloads`` or ``event_streams``. The last three are those
    #: in progress in the server process that answered.
    name: str
    #: The bytes are those of a minute ago at most.
    used: int
    #: Null for unlimited.
    most: int | None


class Usage(msgspec.Struct, kw_only=True):
    """The usage and the quota of a user."""

    user_id: uuid.UUID
    #: Quota: seconds of audio of the recordings uploaded in a month; null for unlimited. A second
    #: with more than 96,000 samples, of all channels together, counts as several.
    limit_s: float | None
    #: Seconds of audio used this month.
    used_s: float
    #: Seconds of audio that are reserved for recordings whose length is not known yet.
    reserved_s: float
    #: When the next month begins and the quota resets.
    renews_at: datetime
    #: Months with usage, newest first; at most twelve.
    months: list[MonthUsage]
    #: The other limits.
    limits: list[LimitUse]
    since: datetime
    until: datetime
    #: Keys used in the period, most requests first.
    keys: list[KeyUsage]


class UsageItem(Resource):
    """``GET /v1/usage``."""

    @operation(
        scope="sessions:read",
        query=UsageQuery,
        answer=Usage,
        problems=(NotFound.of("user"),),
    )
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Return seconds of audio by month and requests by key. Requests are counted with a delay
        of about a second.
        """
        asked = query_of(req, UsageQuery)
        caller = principal(req)
        user_id = asked.user_id or caller.user_id
        with self.deps.store.transaction() as tx:
            is_visible = caller.is_admin or user_id == caller.user_id
            found = account_queries.get_user(tx, user_id) if is_visible else None
            user = or_404(found, "user", user_id)
            since, until = _period(asked, now=session_queries.clock(tx))
            audio = usage_limit_queries.audio_this_month(tx, user_id)
            limits = self._limits(tx, user_id)
            months = usage_limit_queries.months_of(tx, user_id, limit=MOST_MONTHS)
            keys = request_queries.usage_of_user(tx, user_id, since=since, until=until)
        told = Usage(
            user_id=user_id,
            limit_s=self.deps.quota.limit_s(user.max_audio_s_per_month),
            used_s=rounding.seconds(audio.used_s),
            reserved_s=rounding.seconds(audio.reserved_s),
            renews_at=audio.renews_at,
            months=[
                MonthUsage(
                    month=f"{row.month:%Y-%m}",
                    audio_s=rounding.seconds(row.audio_s),
                    sessions=row.sessions,
                )
                for row in months
            ],
            limits=limits,
            since=since,
            until=until,
            keys=[_key_usage(row) for row in keys],
        )
        answer(resp, told)

    def _limits(self, tx: Session, user_id: uuid.UUID) -> list[LimitUse]:
        used, most = self.deps.quota.used(tx, user_id), self.deps.quota.limits()
        found = [LimitUse(name=name, used=used[name], most=most[name]) for name in most]
        return found + [
            LimitUse(name=name, used=pool.held_by(user_id), most=pool.most_of_user)
            for name, pool in self.deps.places.by_name().items()
        ]


def _period(asked: UsageQuery, *, now: datetime) -> tuple[datetime, datetime]:
    """Return the requested period; raises :class:`InvalidParameter`."""
    until = asked.until or now
    try:
        since = asked.since or until - timedelta(days=1)
        is_fit = timedelta(0) < until - since <= timedelta(days=LONGEST_DAYS)
    except OverflowError:
        is_fit = False
    if not is_fit:
        told = f"must be before 'until', by at most {LONGEST_DAYS} days"
        raise InvalidParameter.of([FieldError(field="since", detail=told)])
    return since, until


def _key_usage(row: UsedKey) -> KeyUsage:
    return KeyUsage(
        key_id=row.key_id,
        name=row.name,
        requests=row.requests,
        errors=row.errors,
        bytes_in=int(row.bytes_in),
        bytes_out=int(row.bytes_out),
    )
