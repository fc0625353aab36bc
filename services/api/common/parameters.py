"""Parameters of requests: their types and checks, and the query of a list by time."""

from __future__ import annotations

import functools
import zoneinfo
from datetime import datetime
from typing import Annotated, Literal

import msgspec

from services.http.cursors import PageQuery

Confidence = Annotated[float, msgspec.Meta(ge=0, le=1)]
Time = Annotated[datetime, msgspec.Meta(tz=True)]
JobState = Literal["pending", "completed", "failed"]
ByTime = Literal["created_at", "-created_at"]
#: Upper bound on repeated query parameters, to keep queries cheap.
Few = msgspec.Meta(max_length=50)

#: Names that are not time zones, or stand for a different one on each machine.
_NO_ZONES = frozenset({"localtime", "Factory"})


class CreatedPage(PageQuery, kw_only=True):
    """A query that filters by the time of creation."""

    #: Only items created at this time or later.
    created_from: Time | None = None
    #: Only items created before this time.
    created_to: Time | None = None

    @property
    def created(self) -> tuple[datetime | None, datetime | None]:
        """The range of creation times."""
        return self.created_from, self.created_to


def is_zone(name: str) -> bool:
    """Return whether ``name`` is the IANA name of a time zone."""
    return name in _zones()


@functools.cache
def _zones() -> frozenset[str]:
    """Return the names of all time zones; finding them takes a few hundredths of a second."""
    return frozenset(zoneinfo.available_timezones()) - _NO_ZONES
