"""What the API answers of a session's analysis; docs/analytics.md tells how it is reckoned."""

from __future__ import annotations

from typing import Annotated

import msgspec

from db.tables import analyses as analysis_models
from db.tables.analyses import LIMIT_RANGE_DB, MOST_LIMITS
from services.api.sessions.schemas import Task, task_of

_LEAST_DB, _MOST_DB = LIMIT_RANGE_DB
LimitDb = Annotated[float, msgspec.Meta(ge=_LEAST_DB, le=_MOST_DB)]
LimitsDb = Annotated[list[LimitDb], msgspec.Meta(max_length=MOST_LIMITS)]


class Limits(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """For a level of each second one limit or several, in dB by the session's
    ``level_reference``."""

    #: For the equivalent level.
    laeq: LimitDb | LimitsDb = msgspec.field(name="LAeq", default_factory=list)
    #: For the greatest level with the time weighting F.
    lafmax: LimitDb | LimitsDb = msgspec.field(name="LAFmax", default_factory=list)

    def listed(self) -> dict[str, list[float]]:
        """The limits by their levels, each once and in order; a level without any is left out."""
        given = {"LAeq": self.laeq, "LAFmax": self.lafmax}
        return {
            level: sorted(set(limits if isinstance(limits, list) else [limits]))
            for level, limits in given.items()
            if limits != []
        }


class NewAnalysis(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """An analysis to be made, in the place of the one that there is."""

    limits_db: Limits = msgspec.field(default_factory=Limits)


class TypeHeard(msgspec.Struct, kw_only=True):
    """What was heard of one noise type."""

    noise_type: str
    #: The group of the type; null for a type that is not in the table of noise types.
    group: str | None = None
    events: int
    #: The lengths of the events, added up: what overlaps counts several times.
    total_s: float
    #: For how long it was heard: what overlaps counts once.
    heard_s: float
    #: The share of the recording that ``heard_s`` is.
    heard_share: float
    mean_confidence: float
    min_confidence: float
    max_confidence: float
    #: Events in each class of confidence: see ``confidence``.
    confidence_events: list[int]


class Confidence(msgspec.Struct, kw_only=True):
    """How confidence was distributed: the events in each class, from 0 up."""

    class_width: float
    events: list[int]


class Minutes(msgspec.Struct, kw_only=True):
    """The session minute by minute; the last minute may be shorter."""

    step_s: float
    #: LAeq; null for digital silence, and where no levels are stored.
    laeq_db: list[float | None]
    #: By noise type how many events began.
    events_begun: dict[str, list[int]]
    #: By noise type how many seconds it was heard.
    heard_s: dict[str, list[float]]


class LoudEvent(msgspec.Struct, kw_only=True):
    """One of the loudest events."""

    start_s: float
    end_s: float
    noise_type: str
    confidence: float
    laeq_db: float | None
    lafmax_db: float | None


class EnergyPart(msgspec.Struct, kw_only=True):
    """A part of the sound energy."""

    share: float
    #: The LAeq that the recording would have of this part alone; null if it has no energy.
    laeq_db: float | None


class TypeEnergy(EnergyPart, kw_only=True):
    """The part of a noise type."""

    noise_type: str


class Energy(msgspec.Struct, kw_only=True):
    """Whose the A-weighted sound energy was: all shares together are 1."""

    #: LAeq of the whole recording.
    laeq_db: float | None
    #: The greatest share first. What types overlap in is split equally between them.
    noise_types: list[TypeEnergy]
    #: Of the time without an event.
    background: EnergyPart
    #: Of the time without an event to which nobody has listened, since parts were lost.
    unheard: EnergyPart
    #: What has the greatest share: a noise type, or ``background``.
    main_source: str


class Exceedance(msgspec.Struct, kw_only=True):
    """When the level of a second lay above a limit."""

    #: ``LAeq`` or ``LAFmax``.
    level: str
    limit_db: float
    above_s: float
    #: The share of the recording that ``above_s`` is.
    above_share: float
    #: How often; seconds that follow each other are one time.
    exceedances: int
    longest_s: float
    #: Where the longest begins; null if there is none.
    longest_start_s: float | None
    #: By noise type how many seconds it was heard meanwhile.
    heard_s: dict[str, float]
    #: How many seconds there was no event meanwhile.
    background_s: float


class Stage(msgspec.Struct, kw_only=True):
    """The runs of one step."""

    step: str
    #: By result, such as ``done`` and ``retried``, how many.
    runs: dict[str, int]
    #: All of them together.
    total_s: float
    longest_s: float
    #: Seconds of audio a second of work.
    times_real_time: float | None


class Processing(msgspec.Struct, kw_only=True):
    """How the session went."""

    #: From its arrival until a worker took it up.
    waited_s: float | None
    #: From then to its end.
    took_s: float | None
    #: Seconds of audio a second, from when it was taken up to its end.
    times_real_time: float | None
    stages: list[Stage]
    #: Runs that failed and were tried again.
    retries: int
    spans_total: int
    spans_failed: int
    #: Seconds that are not in the session's answer.
    missing_s: float


class AnalysisResult(msgspec.Struct, kw_only=True):
    """What a session comes to. Noise types are of events, so ``background`` is none."""

    duration_s: float
    #: What all levels and limits refer to.
    level_reference: str
    events: int
    #: For how long anything was heard: what overlaps counts once.
    heard_s: float
    heard_share: float
    #: The one that was heard for longest first.
    noise_types: list[TypeHeard]
    confidence: Confidence
    minutes: Minutes
    #: At most ten, by LAFmax.
    loudest: list[LoudEvent]
    #: Null for digital silence, and where no levels are stored.
    energy: Energy | None
    #: One for each limit that was asked for; null where no levels are stored.
    exceedances: list[Exceedance] | None
    processing: Processing


class Analysis(Task, kw_only=True):
    """A session's analysis: ``pending``, then ``completed`` or ``failed``. It has the session's
    ``id``.
    """

    #: The limits that are looked at, by level.
    limits_db: dict[str, list[float]]
    #: Null until it has been made.
    result: AnalysisResult | None

    @classmethod
    def of(cls, row: analysis_models.Analysis) -> Analysis:
        """The analysis of a row."""
        return cls(
            **task_of(row),
            limits_db=row.limits_db,
            result=msgspec.convert(row.result, AnalysisResult | None),
        )
