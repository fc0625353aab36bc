"""The tables of the work on sessions: what is unfinished, whose turn it is, what is left over."""

from __future__ import annotations

import uuid
from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, Index, SmallInteger, func, text
from sqlalchemy.orm import Mapped, mapped_column

from db.tables.base import Base, Claimable, one_of
from db.tables.sessions import NORMAL, PRIORITIES, UNFINISHED_STATES

#: The lane of sessions with neither a user nor a batch.
NO_LANE = uuid.UUID(int=0)


class UnfinishedSession(Claimable, Base):
    """The work on a session: its place in the order of claims, its claim and its progress.

    The row is added and removed with the session's first and last state. It is narrow, and its
    index has none of the columns that claims, leases and progress write: so these updates are HOT.
    """

    __tablename__ = "unfinished_sessions"
    unfinished = UNFINISHED_STATES
    __table_args__ = (
        CheckConstraint(one_of("state", UNFINISHED_STATES), name="state"),
        CheckConstraint(one_of("priority", tuple(range(len(PRIORITIES)))), name="priority"),
        CheckConstraint("stage_share BETWEEN 0 AND 1", name="stage_share"),
        # The next session: see db/queue/fair_order.py.
        Index(
            "ix_unfinished_sessions_turn", "state", "priority", "lane", "created_at", "session_id"
        ),
        # Whether a batch has unfinished sessions.
        Index(
            "ix_unfinished_sessions_batch",
            "batch_id",
            postgresql_where=text("batch_id IS NOT NULL"),
        ),
        # Room on each page for new versions of its rows.
        {"postgresql_with": {"fillfactor": 50}},
    )

    session_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("audio_sessions.id", ondelete="CASCADE"),
        primary_key=True,
        comment="The session.",
    )
    batch_id: Mapped[uuid.UUID | None] = mapped_column(
        comment="The session's batch; null without one."
    )
    priority: Mapped[int] = mapped_column(
        SmallInteger,
        server_default=text(str(NORMAL)),
        comment="The session's priority: 0 is high, 1 normal, 2 low.",
    )
    lane: Mapped[uuid.UUID] = mapped_column(
        server_default=text(f"'{NO_LANE}'"),
        comment="Its lane in the fair order: the user, else the batch, else zero.",
    )
    created_at: Mapped[datetime] = mapped_column(
        server_default=func.now(), comment="When the session was posted."
    )
    started_at: Mapped[datetime | None] = mapped_column(
        comment="When a worker first claimed the session."
    )

    stage_share: Mapped[float] = mapped_column(
        server_default=text("0"),
        comment=(
            "The share of the current stage that is done, for stages without spans; while queued, "
            "that of all work, done in one claim. It never falls: in a second attempt it does not "
            "change until that has passed the first."
        ),
    )
    stage_since: Mapped[datetime | None] = mapped_column(
        comment="When a worker first claimed the stage."
    )
    stage_told_at: Mapped[datetime | None] = mapped_column(
        comment="When the stage's share last grew."
    )
    spans_finished: Mapped[int] = mapped_column(
        server_default=text("0"),
        comment=(
            "The number of its spans that are done or failed. The transaction that reaches the "
            "session's total ends the stage."
        ),
    )
    resplits: Mapped[int] = mapped_column(
        SmallInteger,
        server_default=text("0"),
        comment=(
            "How often it was decoded again because decoded audio was missing. Attempts "
            "restart each time, so this is part of every fence and of the keys of products."
        ),
    )
    first_claim: Mapped[int] = mapped_column(
        SmallInteger,
        server_default=text("0"),
        comment=(
            "The start of the claim numbers of each stage; a requested retry raises it above "
            "all earlier claims."
        ),
    )
    reserved_s: Mapped[float] = mapped_column(
        server_default=text("0"),
        comment=(
            "Seconds of its user's monthly audio that are reserved until it is split and counted: "
            "what its header or its size promises."
        ),
    )
    backbone_missed_at: Mapped[datetime | None] = mapped_column(
        comment="When it began to wait for a worker that has its backbone; null if it does not."
    )


class Turn(Base):
    """The lane served last, for each state and priority of sessions.

    A migration creates the rows, one for each pair.
    """

    __tablename__ = "turns"

    state: Mapped[str] = mapped_column(primary_key=True, comment="The state of the sessions.")
    priority: Mapped[int] = mapped_column(
        SmallInteger,
        primary_key=True,
        autoincrement=False,
        comment="The priority of the sessions: 0 is high, 1 normal, 2 low.",
    )
    lane: Mapped[uuid.UUID] = mapped_column(
        server_default=text(f"'{NO_LANE}'"), comment="The lane that was served last."
    )


class SessionLeftovers(Base):
    """An ended session whose leftover blobs have not been finally removed."""

    __tablename__ = "session_leftovers"
    __table_args__ = ({"postgresql_with": {"fillfactor": 50}},)

    session_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("audio_sessions.id", ondelete="CASCADE"),
        primary_key=True,
        comment="The session.",
    )
    finished_at: Mapped[datetime] = mapped_column(
        server_default=func.now(),
        comment=(
            "When it ended: once no worker can still be writing for it, its blobs are finally "
            "removed."
        ),
    )
    at_once: Mapped[bool] = mapped_column(
        server_default=text("false"),
        comment=(
            "Whether blobs must be removed before that too: decoded audio, or audio that may not "
            "be kept."
        ),
    )
