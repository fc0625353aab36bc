"""The fair order: the order in which sessions and spans are claimed.

A message says that one more work item of its kind is ready; the database decides which is next:

1. by priority: ``high``, ``normal``, ``low``. A few claims in a hundred begin with a lower one,
   so that ``low`` makes slow progress even behind an endless stream of ``high``;
2. within a priority by *lane*, in turns. A lane is the waiting work of one user, or of one batch
   without a user, or of everything else. Lanes are served round-robin, one work item each, so that
   a thousand recordings of one caller and a single one of another take turns;
3. within a lane by the age of the session, then by the position of the span.

The cost of a claim does not depend on the number of lanes and items: ``turns`` stores the lane that
was served last, and the next lane with due work is the next entry of an index. Spans have neither
priority nor lane; they are found through their session. So cancelling a session or changing its
priority affects all of its spans at once.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from random import SystemRandom
from typing import Any

from sqlalchemy import (
    ARRAY,
    SmallInteger,
    TextClause,
    Uuid,
    bindparam,
    select,
    text,
)
from sqlalchemy.orm import Session

from db.queue import claims
from db.queue.claims import Claim, ClaimTimes, SessionWork
from db.statements import CompiledStatement
from db.tables.sessions import PRIORITIES
from db.tables.unfinished import UnfinishedSession

#: One claim in this many begins with ``normal``, and one with ``low``. A smaller number weakens
#: priorities; a larger one lets the lower ones wait longer.
EXCEPTION_IN = 20

_chance = SystemRandom()


def next_session(
    tx: Session, *, state: str, lease_s: float, beside: Sequence[uuid.UUID] = ()
) -> Claim[SessionWork] | None:
    """Claim the next session in a state, of another lane than those of the sessions ``beside``."""
    if beside:
        row = _take(tx, _NEXT_SESSION_BESIDE, state, lease_s=lease_s, beside=list(beside))
    else:
        row = _take(tx, _NEXT_SESSION, state, lease_s=lease_s)
    if row is None:
        return None
    work = SessionWork(session_id=row.session_id, state=state, resplits=row.resplits)
    times = ClaimTimes(first_at=row.started_at, at=row.claimed_at)
    return Claim(work, row.attempt, row.uncounted, times)


def next_span(tx: Session, *, lease_s: float) -> Claim[SessionWork] | None:
    """Claim the next span."""
    row = _take(tx, _NEXT_SPAN, "detecting", lease_s=lease_s)
    if row is None:
        return None
    work = SessionWork(
        session_id=row.session_id,
        span_index=row.span_index,
        state="pending",
        resplits=row.resplits,
    )
    return Claim(work, row.attempt, row.uncounted)


def waiting_session(
    tx: Session, *, state: str, beside: Sequence[uuid.UUID], for_s: float
) -> uuid.UUID | None:
    """Return a session in a state that has been due for some seconds, if there is one.

    Of another lane than those of the sessions ``beside``.
    """
    row = UnfinishedSession
    their_lanes = select(row.lane).where(row.session_id.in_(beside))
    found = select(row.session_id).where(
        row.state == state,
        row.due_at <= claims.seconds_ago(for_s),
        row.lane.not_in(their_lanes),
    )
    return tx.scalars(found.limit(1)).one_or_none()


def _take(
    tx: Session, statement: CompiledStatement, state: str, *, lease_s: float, **values: object
) -> Any:
    """Claim the next row, and record whose turn it was, in one statement; None without a row."""
    found = statement.run(tx, state=state, lease_s=lease_s, priorities=priorities(), **values)
    return found.fetchone()


def priorities() -> list[int]:
    """Return the priorities in the order in which this claim searches them."""
    drawn = _chance.randrange(EXCEPTION_IN)
    return sorted(range(len(PRIORITIES)), key=lambda priority: (priority != drawn, priority))


#: The lanes to search, in order: for each priority the lanes after the one that was served last,
#: then the others from the start. A range begins after a lane and a time of posting, so that its
#: first row is the next entry of the index: no session was posted at ``infinity``.
RANGES = """
        SELECT priority, half, after_lane, after_time, last_lane
        FROM unnest(:priorities) WITH ORDINALITY AS wanted (priority, place)
        JOIN turns USING (priority)
        CROSS JOIN LATERAL (VALUES
            (1, turns.lane, 'infinity'::timestamptz, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid),
            (2, '00000000-0000-0000-0000-000000000000', '-infinity', turns.lane)
        ) AS part (half, after_lane, after_time, last_lane)
        WHERE turns.state = :state
        ORDER BY place, half
"""

#: Records whose turn it was. Claims do not wait for one another here: the one that holds the row
#: records a turn that is just as good.
SERVED = """
        UPDATE turns
        SET lane = found.lane
        FROM found
        WHERE (turns.state, turns.priority) IN (
            SELECT state, priority
            FROM turns
            WHERE state = :state AND priority IN (SELECT priority FROM found)
            FOR NO KEY UPDATE SKIP LOCKED
        )
"""


def claim(found: str, claimed: str) -> TextClause:
    """Return the statement that finds a row in the ranges, claims it, and records the turn.

    ``found`` selects the row, and ``claimed`` updates it.
    """
    parts = f"ranges AS ({RANGES}), found AS ({found}), served AS ({SERVED})"
    statement = text(f"WITH {parts} {claimed}")
    return statement.bindparams(bindparam("priorities", type_=ARRAY(SmallInteger)))


# In both claims a lateral join visits the rows on its left in their order and stops at the limit:
# only the claimed row is locked, and rows locked by other claims are skipped.

#: Finds the first session in the ranges that fulfils another condition.
_FOUND_SESSION = """
        SELECT ranges.priority, session.lane, session.session_id
        FROM ranges
        CROSS JOIN LATERAL (
            SELECT lane, session_id
            FROM unfinished_sessions
            WHERE state = :state
              AND priority = ranges.priority
              AND (lane, created_at) > (ranges.after_lane, ranges.after_time)
              AND lane <= ranges.last_lane
              AND due_at <= clock_timestamp()
              AND {condition}
            ORDER BY lane, created_at, session_id
            LIMIT 1
            FOR NO KEY UPDATE SKIP LOCKED
        ) AS session
        LIMIT 1
"""

_CLAIMED_SESSION = """
    UPDATE unfinished_sessions AS session
    SET attempt = session.attempt + 1,
        due_at = clock_timestamp() + make_interval(secs => :lease_s),
        waits_for_storage = false,
        started_at = coalesce(session.started_at, clock_timestamp()),
        stage_since = coalesce(session.stage_since, clock_timestamp())
    FROM found
    WHERE session.session_id = found.session_id
    RETURNING found.priority, found.lane, session.session_id, session.attempt, session.uncounted,
              session.resplits, session.started_at, clock_timestamp() AS claimed_at
"""

_OF_OTHER_LANES = """lane NOT IN (
                  SELECT lane FROM unfinished_sessions WHERE session_id = ANY (:beside)
              )"""

NEXT_SESSION = claim(_FOUND_SESSION.format(condition="true"), _CLAIMED_SESSION)
NEXT_SESSION_BESIDE = claim(
    _FOUND_SESSION.format(condition=_OF_OTHER_LANES), _CLAIMED_SESSION
).bindparams(bindparam("beside", type_=ARRAY(Uuid)))

#: Claims the first span found, range by range and session by session.
NEXT_SPAN = claim(
    """
        SELECT ranges.priority, session.lane, session.resplits, span.session_id, span.span_index
        FROM ranges
        CROSS JOIN LATERAL (
            SELECT lane, session_id, resplits
            FROM unfinished_sessions
            WHERE state = 'detecting'
              AND priority = ranges.priority
              AND (lane, created_at) > (ranges.after_lane, ranges.after_time)
              AND lane <= ranges.last_lane
            ORDER BY lane, created_at, session_id
        ) AS session
        CROSS JOIN LATERAL (
            SELECT session_id, span_index
            FROM session_spans
            WHERE session_id = session.session_id AND state = 'pending'
              AND due_at <= clock_timestamp()
            ORDER BY span_index
            LIMIT 1
            FOR NO KEY UPDATE SKIP LOCKED
        ) AS span
        LIMIT 1
    """,
    """
    UPDATE session_spans AS span
    SET attempt = span.attempt + 1,
        due_at = clock_timestamp() + make_interval(secs => :lease_s),
        waits_for_storage = false,
        started_at = coalesce(span.started_at, clock_timestamp())
    FROM found
    WHERE span.session_id = found.session_id AND span.span_index = found.span_index
    RETURNING found.priority, found.lane, found.resplits, span.session_id, span.span_index,
              span.attempt, span.uncounted
    """,
)

_NEXT_SESSION, _NEXT_SESSION_BESIDE, _NEXT_SPAN = map(
    CompiledStatement, (NEXT_SESSION, NEXT_SESSION_BESIDE, NEXT_SPAN)
)
