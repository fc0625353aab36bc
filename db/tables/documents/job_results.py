"""The results of periodic jobs, as stored in their runs."""

from __future__ import annotations

from typing import NotRequired, TypedDict

from db.tables.base import JsonObject


class HealthResult(TypedDict):
    """The result of ``health_check``."""

    healthy: bool
    #: The reason of each check that failed.
    faults: dict[str, str]
    #: The findings of each check: ``ok``, ``fault`` if it failed, and figures of its own.
    checks: dict[str, JsonObject]


class CleanUpResult(TypedDict):
    """The result of ``clean_up``: how many of each it removed, unless the field says otherwise.

    Those that have blobs are absent while the owner of the blob store is undecided.
    """

    #: The names of partitions: new ones, and those past their retention. One that is locked is
    #: dropped by a later run.
    partitions_created: list[str]
    partitions_dropped: list[str]
    deliveries: int
    answers: int
    minutes: int
    #: Runs of periodic jobs.
    runs: int
    batches: int
    #: Secrets that were encrypted again, with the first key of ``CLAMOR_SECRET_KEYS``.
    resealed: int
    exports: NotRequired[int]
    reports: NotRequired[int]
    trainings: NotRequired[int]
    validations: NotRequired[int]
    unfinished: NotRequired[int]
    #: Blobs that no row names: newly marked, and removed.
    marked: NotRequired[int]
    orphans: NotRequired[int]


class RetentionResult(TypedDict):
    """The result of ``cleanup_old_sessions`` and ``cleanup_failed_sessions``."""

    older_than_s: float
    dry_run: bool
    #: Sessions removed, or to be removed in a dry run; their audio and the bytes of their uploads
    #: as counted at the start.
    sessions: int
    duration_s: float
    size_bytes: int
    kept_clips: NotRequired[int]


class TableSize(TypedDict):
    """The size of a table by the statistics of Postgres."""

    live_rows: int
    dead_rows: int
    #: With indexes.
    size_bytes: int


class VacuumedTable(TypedDict):
    """A table before and after it was vacuumed."""

    before: TableSize
    after: TableSize


class VacuumResult(TypedDict):
    """The result of ``vacuum_database``, by table."""

    tables: dict[str, VacuumedTable]


class StartReportsResult(TypedDict):
    """The result of ``start_daily_reports``: the day, and the number of reports requested."""

    day: str
    reports: int
