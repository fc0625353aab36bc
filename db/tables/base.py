"""Shared parts of tables: constraint names, owners, traces, and the columns of work items.

Constraints are declared on the table, never in a column: autogenerate does not detect a check in a
column. Every work item (a session's current stage, a span, a training, a validation) is *claimable*
by the same columns, see `Claimable`.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar, NotRequired, TypeAlias, TypedDict

from sqlalchemy import (
    DateTime,
    ForeignKey,
    MetaData,
    SmallInteger,
    Table,
    Text,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

#: A JSON object of free content, such as the options of a job. It is read, not changed, and a value
#: in it has to be checked before use. Where the content is known, a column has a `TypedDict`; every
#: `TypedDict` is a `JsonObject`, which it would not be if the values were a recursive union.
JsonObject: TypeAlias = Mapping[str, object]


def one_of(column: str, values: tuple[str, ...] | tuple[float, ...]) -> str:
    """Return the SQL condition that a column has one of some values."""
    return f"{column} IN ({', '.join(repr(value) for value in values)})"


class Base(DeclarativeBase):
    """Names every constraint by convention, so that migrations can refer to it.

    A table's comment in the catalog is the first paragraph of its class's docstring. A column's is
    its ``comment``. Migrations repeat both; ``clamor migrate --check`` compares them.
    """

    metadata = MetaData(
        naming_convention={
            "pk": "pk_%(table_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "ix": "ix_%(table_name)s_%(column_0_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012  (SQLAlchemy's own declaration)
        datetime: DateTime(timezone=True),
        str: Text,
    }

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        table = cls.__table__
        assert isinstance(table, Table)
        assert cls.__doc__ is not None
        table.comment = " ".join(cls.__doc__.partition("\n\n")[0].split())


class MissingPart(TypedDict):
    """An interval of a recording that is missing from its answer, in seconds, and the reason."""

    start_s: float
    end_s: float
    reason: str


class StoredHole(TypedDict):
    """An interval of a recording without audio, in seconds. Its kind is a `HoleKind`."""

    start_s: float
    end_s: float
    kind: str


class StoredProblem(TypedDict):
    """The reason for a missing or incomplete result: a stable code and a sentence."""

    code: str
    detail: str
    missing: NotRequired[list[MissingPart]]


class Claimable:
    """A row that is a work item: one worker at a time holds it, by a lease and a fence.

    ``attempt`` counts the claims and is the fence: a result is written only if the claim still has
    the row's attempt number. ``due_at`` is when the row may be claimed next: the end of the lease
    during the work, the time of the next try after a failure. A row is *stalled* when it is
    unfinished, due, and was not nudged recently.
    """

    #: The states in which the row is unfinished, even if it only waits for other rows.
    unfinished: ClassVar[tuple[str, ...]] = ("pending",)

    state: Mapped[str] = mapped_column(
        comment="The state; the check constraint has the possible ones."
    )
    attempt: Mapped[int] = mapped_column(
        SmallInteger,
        server_default=text("0"),
        comment=(
            "The number of claims: the fence, since a result is written only for the claim "
            "with this number."
        ),
    )
    due_at: Mapped[datetime] = mapped_column(
        server_default=func.now(),
        comment=(
            "When the row may be claimed next: the end of the lease, or the time of the next try."
        ),
    )
    nudged_at: Mapped[datetime] = mapped_column(
        server_default=func.now(), comment="When a message about the row was last sent."
    )
    last_error: Mapped[str | None] = mapped_column(
        comment="Why the last try failed; null if none did."
    )
    uncounted: Mapped[int] = mapped_column(
        SmallInteger,
        server_default=text("0"),
        comment=(
            "Claims that do not count against CLAMOR_MAX_ATTEMPTS: those that ended because "
            "a store of the installation failed, or because the worker lacked the session's "
            "backbone, and those before a requested retry."
        ),
    )
    waits_for_storage: Mapped[bool] = mapped_column(
        server_default=text("false"),
        comment="Whether the latest claim ended for want of storage and no other has followed.",
    )


#: The values of a claimable row before its first claim, and again in each new state.
UNTRIED: Mapping[str, Any] = {
    "attempt": 0,
    "uncounted": 0,
    "waits_for_storage": False,
    "last_error": None,
}


def untried_now() -> dict[str, Any]:
    """Return the values of a claimable row that is due at once and has not been tried."""
    # The same time for both, as the caller nudges right after the commit.
    return {**UNTRIED, "due_at": func.now(), "nudged_at": func.now()}


class Owned:
    """A row that belongs to a user; null for shipped models, or if its user was removed."""

    user_id: Mapped[uuid.UUID | None] = mapped_column(
        ForeignKey("users.id", ondelete="SET NULL"),
        comment=("The user that the row belongs to; null without one, or if the user was removed."),
    )


class Traced:
    """A row created by a request. ``traceparent`` (W3C Trace Context) is that of the request, so
    that work on the row continues its trace. Null if nothing is traced.
    """

    traceparent: Mapped[str | None] = mapped_column(
        comment=(
            "The traceparent (W3C Trace Context) of the request that created the row; null "
            "without tracing."
        )
    )


#: The states of jobs, such as trainings and validations: one piece of work, and its end.
JOB_STATES = ("pending", "completed", "failed")


class JobRow(Claimable, Traced):
    """A claimable row that is one piece of work, with its progress."""

    # Each table of jobs declares it as its key.
    id: Mapped[uuid.UUID]
    created_at: Mapped[datetime] = mapped_column(
        server_default=func.now(), comment="When it was requested."
    )
    started_at: Mapped[datetime | None] = mapped_column(comment="When a worker first claimed it.")
    finished_at: Mapped[datetime | None] = mapped_column(comment="When it ended; null until then.")
    percent: Mapped[int] = mapped_column(
        SmallInteger,
        server_default=text("0"),
        comment="The progress of the latest claim, from 0 to 100.",
    )
    stage: Mapped[str] = mapped_column(
        server_default=text("'waiting'"), comment="The current stage of the latest claim."
    )
    problem: Mapped[StoredProblem | None] = mapped_column(
        JSONB, comment="Why it failed, as a code and a sentence; null unless it did."
    )
