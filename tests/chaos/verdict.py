"""The checks after the faults, on the tables, the queues and the blob store."""

from __future__ import annotations

import json
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import psycopg

from actors.messaging.messages import CleanUp
from db.blobs.keys import OWNER
from services.client import ApiError
from tests.chaos.world import World

#: Time limit for settling. Retry delays grow to minutes for rows that met many faults.
SETTLE_S = 240.0
#: Seconds between two lines about unfinished work.
SAID_S = 5.0
#: Seconds between two messages to remove orphaned blobs.
CLEAN_UP_S = 5.0
ORPHAN = "no row names the blob"

#: The answer to a recording: all columns except those with session IDs and times.
ANSWER = """
    SELECT s.file_name, s.id, s.state, s.problem, s.summary, r.duration_s, s.n_samples,
           s.spans_total, s.spans_finished,
           (SELECT jsonb_agg(to_jsonb(d) - '{session_id,id}'::text[] ORDER BY d.event_index)
            FROM noise_detections d WHERE d.session_id = s.id)
    FROM audio_sessions s LEFT JOIN session_results r ON r.session_id = s.id ORDER BY s.created_at
"""
UNFINISHED = """
    SELECT state, count(*) FROM audio_sessions
    WHERE state NOT IN ('completed', 'partial', 'failed', 'cancelled') GROUP BY state
"""
#: Spans of cancelled sessions may stay pending, since they are no longer work.
STRAY_SPANS = """
    SELECT count(*) FROM session_spans p JOIN audio_sessions s ON s.id = p.session_id
    WHERE p.state = 'pending' AND s.state IN ('completed', 'partial', 'failed')
"""
AGGREGATES = """
    SELECT s.id, s.state, count(m.id) FROM audio_sessions s
    LEFT JOIN processing_metrics m
        ON m.session_id = s.id AND m.step = 'aggregate' AND m.result = 'done'
    GROUP BY s.id, s.state
    HAVING count(m.id) <> CASE WHEN s.state IN ('completed', 'partial') THEN 1 ELSE 0 END
"""
#: Every column of any table that names a blob.
KEY_COLUMNS = """
    SELECT table_name, column_name FROM information_schema.columns
    WHERE table_schema = 'public' AND right(column_name, 4) = '_key' AND data_type = 'text'
"""

Answer = tuple[Any, ...]


def answers(world: World) -> list[tuple[str, str, Answer]]:
    """Return the file name, the ID and the answer of every session."""
    return [(name, str(session), tuple(rest)) for name, session, *rest in world.rows(ANSWER)]


def settle(world: World, *, say: Callable[[str], None]) -> float:
    """Wait until all work is done; return the seconds that it took.

    Raises
    ------
    AssertionError
        If work is left after `SETTLE_S`; the message lists it.
    """
    started = time.monotonic()
    next_said = next_clean_up = 0.0
    while complaints := _unsettled(world):
        if time.monotonic() > next_said:
            say(f"{time.monotonic() - started:6.1f} s of settling: {'; '.join(complaints)}")
            next_said = time.monotonic() + SAID_S
        if complaints[0].startswith(ORPHAN) and time.monotonic() > next_clean_up:
            # In an installation the scheduler sends this message each night.
            world.ask(CleanUp(), force=True)
            next_clean_up = time.monotonic() + CLEAN_UP_S
        if time.monotonic() - started > SETTLE_S:
            raise AssertionError(f"not settled after {SETTLE_S:.0f} s: {'; '.join(complaints)}")
        time.sleep(0.5)
    return time.monotonic() - started


def _unsettled(world: World) -> list[str]:
    """Return the remaining work; expensive checks run only after the cheap ones pass."""
    try:
        unfinished = [f"{count} sessions {state}" for state, count in world.rows(UNFINISHED)]
        return unfinished or orphans(world) or waiting(world)
    except (psycopg.OperationalError, subprocess.SubprocessError) as error:
        return [f"no answer ({type(error).__name__})"]


def waiting(world: World) -> list[str]:
    """Return the queues with ready or unacknowledged messages, except dead-letter queues."""
    return [
        f"{name}: {ready} ready, {unacked} unacked"
        for name, ready, unacked in _queues(world)
        if (ready or unacked) and not name.endswith(".XQ")
    ]


def dead_letters(world: World) -> int:
    """Return the number of dead letters."""
    return sum(ready for name, ready, _unacked in _queues(world) if name.endswith(".XQ"))


def _queues(world: World) -> list[tuple[str, int, int]]:
    columns = ("name", "messages_ready", "messages_unacknowledged")
    listed = world.rabbitmq.control("list_queues", *columns, "--formatter", "json")
    return [tuple(queue[column] for column in columns) for queue in json.loads(listed)]


def orphans(world: World) -> list[str]:
    """Return blobs without rows, rows without blobs, and pending spans of ended sessions."""
    named = {
        key
        for table, column in world.rows(KEY_COLUMNS)
        for (key,) in world.table(table, column)
        if key is not None
    }
    stored = world.store.keys() - {OWNER}
    found = [f"{ORPHAN} {key}" for key in sorted(stored - named)]
    found += [f"a row names {key}, which is not stored" for key in sorted(named - stored)]
    [(spans,)] = world.rows(STRAY_SPANS)
    return found + ([f"{spans} spans of ended sessions are pending"] if spans else [])


def complaints(world: World, expected: Mapping[str, Answer]) -> list[str]:
    """Return all deviations from the expected answers; floats are also compared exactly."""
    found = []
    for name, session, answer in answers(world):
        wanted = expected[name]
        if answer != wanted:
            differing = [
                f"{got!r} instead of {want!r}"
                for got, want in zip(answer, wanted, strict=True)
                if got != want
            ]
            found.append(f"{name}, session {session}: {'; '.join(differing)}")
    found += [
        f"session {session} is {state} and has {count} aggregate results"
        for session, state, count in world.rows(AGGREGATES)
    ]
    return found + _not_answered(world)


def _not_answered(world: World) -> list[str]:
    """Return the sessions for which the API and the tables differ."""
    found = []
    for name, session, answer in answers(world):
        try:
            told = world.client.session(session)
            events = world.client.detections(session)
        except ApiError as error:
            found.append(f"{name}, session {session}: {error}")
            continue
        if told.state != answer[0] or len(events) != len(answer[-1] or ()):
            found.append(f"{name}, session {session}: the API differs from the tables: {told}")
    return found


def runs(world: World) -> Counter[str]:
    """Return the number of runs of steps by result."""
    return Counter(
        dict(world.rows("SELECT result, count(*) FROM processing_metrics GROUP BY result"))
    )


def counted(world: World) -> Counter[str]:
    """Return the number of sessions by state."""
    return Counter(answer[0] for _name, _session, answer in answers(world))
