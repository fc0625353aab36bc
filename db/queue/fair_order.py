"""Whose turn it is: the order in which sessions and spans are worked on.

A message says that one more unit of its kind is ready; the database says which one is next:

1. by priority: ``high``, ``normal``, ``low``. A few claims in a hundred begin with a lower one,
   so that ``low`` gets on slowly even behind a stream of ``high`` that never ends;
2. within a priority by *lane*, in turns. A lane is all that one user has waiting, or one batch, or
   whatever has neither. Lanes are gone through in a circle, one unit each, so that a thousand
   recordings of one caller and one of another take turns;
3. within a lane by the age of the session, then by the place of the span.

A claim costs the same however many lanes and units wait: ``turns`` remembers the lane that was
served last, and the next one that has anything due is the next entry of an index. Spans bear
neither priority nor lane, they are found by their session. So a session that is cancelled, or that
is given another priority, takes all of its spans with it at once.
"""

from __future__ import annotations

import uuid
from random import SystemRandom
from typing import Any

from sqlalchemy import (
    ARRAY,
    Row,
    SmallInteger,
    TextClause,
    Uuid,
    bindparam,
    select,
    text,
)
from sqlalchemy.orm import Session

from db.queue.claims import Claim, Work
from db.tables.sessions import PRIORITIES, Turn

#: One claim in so many begins with ``normal``, and one with ``low``. More weaken priorities,
#: fewer let the lower ones wait for longer.
EXCEPTION_IN = 20
#: Lanes are gone through from the lowest to the highest of their ids, and then from the start.
LOWEST, HIGHEST = uuid.UUID(int=0), uuid.UUID(int=2**128 - 1)

_chance = SystemRandom()


def next_session(db: Session, *, state: str, lease_s: float) -> Claim[Work] | None:
    """Take the session that is next of those in a state."""
    row = _take(db, NEXT_SESSION, state, lease_s=lease_s)
    if row is None:
        return None
    work = Work(session_id=row.id, state=state, resplits=row.resplits)
    return Claim(work, row.attempt, row.uncounted)


def next_span(db: Session, *, lease_s: float) -> Claim[Work] | None:
    """Take the span that is next."""
    row = _take(db, NEXT_SPAN, "detecting", lease_s=lease_s)
    if row is None:
        return None
    work = Work(
        session_id=row.session_id, span_index=row.span_index, state="pending",
        resplits=row.resplits,
    )  # fmt: skip
    return Claim(work, row.attempt, row.uncounted)


def _take(db: Session, statement: TextClause, state: str, *, lease_s: float) -> Row[Any] | None:
    """Run a claim, and note whose turn it was."""
    parameters = stretches(db, state) | {"state": state, "lease_s": lease_s}
    row = db.execute(statement, parameters).one_or_none()
    if row is not None:
        db.execute(SERVED, {"state": state, "priority": row.priority, "lane": row.lane})
    return row


def stretches(db: Session, state: str) -> dict[str, list[Any]]:
    """Where to look for the next unit, in this order: of each priority the lanes behind the one
    that was served last, and then the others from the start.
    """
    last = {
        turn.priority: turn.lane
        for turn in db.execute(select(Turn.priority, Turn.lane).where(Turn.state == state))
    }
    found: list[tuple[int, uuid.UUID, uuid.UUID]] = []
    for priority in _priorities():
        lane = last[priority]
        if lane != HIGHEST:
            found.append((priority, uuid.UUID(int=lane.int + 1), HIGHEST))
        found.append((priority, LOWEST, lane))
    priorities, lowest, highest = zip(*found, strict=True)
    return {"priorities": [*priorities], "lowest": [*lowest], "highest": [*highest]}


def _priorities() -> list[int]:
    """The priorities, in the order in which this claim looks for work."""
    drawn = _chance.randrange(EXCEPTION_IN)
    return sorted(range(len(PRIORITIES)), key=lambda priority: (priority != drawn, priority))


def claim(sql: str) -> TextClause:
    """A statement that looks for the next unit in :func:`stretches`."""
    return text(sql).bindparams(
        bindparam("priorities", type_=ARRAY(SmallInteger)),
        bindparam("lowest", type_=ARRAY(Uuid)),
        bindparam("highest", type_=ARRAY(Uuid)),
    )


# In both claims a lateral join goes through the rows on its left in their order, and stops at the
# limit: only the row is locked that is taken, and one that another claim has locked is passed
# over.

#: Takes the first session that is found, stretch by stretch. The constant list of states lets the
#: partial index be used whatever the parameter is.
NEXT_SESSION = claim("""
    WITH found AS (
        SELECT stretch.priority, session.lane, session.id
        FROM unnest(:priorities, :lowest, :highest) AS stretch (priority, lowest, highest)
        CROSS JOIN LATERAL (
            SELECT lane, id
            FROM audio_sessions
            WHERE state = :state AND state IN ('queued', 'splitting', 'aggregating')
              AND priority = stretch.priority
              AND lane BETWEEN stretch.lowest AND stretch.highest
              AND due_at <= clock_timestamp()
            ORDER BY lane, created_at, id
            LIMIT 1
            FOR NO KEY UPDATE SKIP LOCKED
        ) AS session
        LIMIT 1
    )
    UPDATE audio_sessions AS session
    SET attempt = session.attempt + 1,
        due_at = clock_timestamp() + make_interval(secs => :lease_s),
        waits_for_storage = false,
        started_at = coalesce(session.started_at, clock_timestamp()),
        stage_since = coalesce(session.stage_since, clock_timestamp())
    FROM found
    WHERE session.id = found.id
    RETURNING found.priority, found.lane, session.id, session.attempt, session.uncounted,
              session.resplits
""")

#: Takes the first span that is found, stretch by stretch and session by session.
NEXT_SPAN = claim("""
    WITH found AS (
        SELECT stretch.priority, session.lane, session.resplits, span.session_id, span.span_index
        FROM unnest(:priorities, :lowest, :highest) AS stretch (priority, lowest, highest)
        CROSS JOIN LATERAL (
            SELECT lane, id, resplits
            FROM audio_sessions
            WHERE state = 'detecting'
              AND priority = stretch.priority
              AND lane BETWEEN stretch.lowest AND stretch.highest
            ORDER BY lane, created_at, id
        ) AS session
        CROSS JOIN LATERAL (
            SELECT session_id, span_index
            FROM session_spans
            WHERE session_id = session.id AND state = 'pending'
              AND due_at <= clock_timestamp()
            ORDER BY span_index
            LIMIT 1
            FOR NO KEY UPDATE SKIP LOCKED
        ) AS span
        LIMIT 1
    )
    UPDATE session_spans AS span
    SET attempt = span.attempt + 1,
        due_at = clock_timestamp() + make_interval(secs => :lease_s),
        waits_for_storage = false,
        started_at = coalesce(span.started_at, clock_timestamp())
    FROM found
    WHERE span.session_id = found.session_id AND span.span_index = found.span_index
    RETURNING found.priority, found.lane, found.resplits, span.session_id, span.span_index,
              span.attempt, span.uncounted
""")

#: Notes whose turn it was. Claims do not wait for one another here: whoever holds the row is
#: noting a turn that was just as good.
SERVED = text("""
    UPDATE turns
    SET lane = :lane
    WHERE (state, priority) IN (
        SELECT state, priority
        FROM turns
        WHERE state = :state AND priority = :priority
        FOR NO KEY UPDATE SKIP LOCKED
    )
""").bindparams(bindparam("lane", type_=Uuid))
