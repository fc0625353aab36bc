"""Requests and answers about analyses; docs/analytics.md explains how they are computed."""

from __future__ import annotations

from typing import Annotated

import msgspec

from db import typed
from db.tables import analyses as analysis_models
from db.tables.analyses import LIMIT_RANGE_DB, MOST_LIMITS
from db.tables.documents.analyses import AnalysisResult
from services.api.common.schemas import AsyncTask, task_of

_LEAST_DB, _MOST_DB = LIMIT_RANGE_DB
LimitDb = Annotated[float, msgspec.Meta(ge=_LEAST_DB, le=_MOST_DB)]
LimitsDb = Annotated[list[LimitDb], msgspec.Meta(max_length=MOST_LIMITS)]


class Limits(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Limits for the levels of each second: one or several per level, in dB relative to the
    session's ``level_reference``.
    """

    #: Limits for the equivalent level (LAeq).
    laeq: LimitDb | LimitsDb = msgspec.field(name="LAeq", default_factory=list)
    #: Limits for the maximum level with time weighting F (LAFmax).
    lafmax: LimitDb | LimitsDb = msgspec.field(name="LAFmax", default_factory=list)

    def listed(self) -> dict[str, list[float]]:
        """Return the limits by level, sorted and unique; levels without limits are left out."""
        given = {"LAeq": self.laeq, "LAFmax": self.lafmax}
        return {
            level: sorted(set(limits if isinstance(limits, list) else [limits]))
            for level, limits in given.items()
            if limits != []
        }


class NewAnalysis(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A request for an analysis, which replaces the existing one."""

    limits_db: Limits = msgspec.field(default_factory=Limits)


class Analysis(AsyncTask, kw_only=True):
    """An analysis of a session: ``pending``, then ``completed`` or ``failed``. Its ``id`` is the
    session's.
    """

    #: The requested limits, by level.
    limits_db: dict[str, list[float]]
    #: Null until the analysis has completed.
    result: AnalysisResult | None

    @classmethod
    def of(cls, row: analysis_models.AnalysisJob) -> Analysis:
        """Convert a row to an analysis."""
        return cls(
            **task_of(row),
            limits_db=row.limits_db,
            result=typed.convert(row.result, AnalysisResult | None),
        )
