"""What tables share: names of constraints, owners, traces, and what makes a row work.

Constraints stand on the table, never inside a column: autogenerate does not see a check that is
written into a column. Every unit of work (a session's current stage, a span, a training, a
validation) is *claimable* by the same columns, see `Claimable`.
"""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any, ClassVar

from sqlalchemy import (
    DateTime,
    ForeignKey,
    MetaData,
    SmallInteger,
    Text,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


def one_of(column: str, values: tuple[str, ...] | tuple[float, ...]) -> str:
    """The SQL that holds a column to some values."""
    return f"{column} IN ({', '.join(repr(value) for value in values)})"


class Base(DeclarativeBase):
    """Names every constraint by rule, so that a migration can always name it too."""

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
        dict[str, Any]: JSONB,
        str: Text,
    }


class Claimable:
    """A row that is work: one worker at a time holds it, by a lease and a fence.

    ``attempt`` counts the claims and is the fence: a result is written only by the claim that
    still bears the row's number. ``due_at`` says when the row may be claimed next: the end of the
    lease while somebody works, the time of the next try after a failure. A row is *quiet* when it
    is unfinished, due, and was not nudged lately.
    """

    #: The states in which the row is work, or waits for the work of others.
    unfinished: ClassVar[tuple[str, ...]] = ("pending",)

    state: Mapped[str]
    attempt: Mapped[int] = mapped_column(SmallInteger, server_default=text("0"))
    due_at: Mapped[datetime] = mapped_column(server_default=func.now())
    nudged_at: Mapped[datetime] = mapped_column(server_default=func.now())
    last_error: Mapped[str | None]
    #: Claims that do not count against ``CLAMOR_MAX_ATTEMPTS``: those that ended because the blob
    #: store was away or full, or because the worker lacked the session's backbone, and those before
    #: a retry that was asked for.
    uncounted: Mapped[int] = mapped_column(SmallInteger, server_default=text("0"))
    #: Whether the latest claim ended for want of storage, and none has followed.
    waits_for_storage: Mapped[bool] = mapped_column(server_default=text("false"))


class Owned:
    """A row that is a user's; null is what was there before there were users, or what outlived
    its own."""

    user_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"))


class Traced:
    """A row that a request made: ``traceparent`` is the request's, as W3C Trace Context has it, so
    that whoever works on the row goes on with its trace. Null where nothing is traced."""

    traceparent: Mapped[str | None]


#: What a training and a validation go through: one piece of work, and its end.
JOB_STATES = ("pending", "completed", "failed")


class Job(Claimable):
    """A claimable row that is one piece of work, with a bar to watch it by."""

    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    #: How far the work is, and what it is at; the latest claim's.
    percent: Mapped[int] = mapped_column(SmallInteger, server_default=text("0"))
    stage: Mapped[str] = mapped_column(server_default=text("'waiting'"))
    #: Why there is no result: a code and a sentence.
    problem: Mapped[dict[str, Any] | None]
