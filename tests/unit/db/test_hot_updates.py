"""Which updates of sessions write to an index, so that they cannot be HOT."""

from __future__ import annotations

import re

from db.queries.stage_results import AggregateDone, ProcessDone, SplitDone
from db.queue.claims import at_claim
from db.queue.session_moves import BEGINNING, CARRIED, OF_RESULT
from db.tables.base import Base
from db.tables.sessions import AudioSession
from db.tables.unfinished import UnfinishedSession


def indexed(table: type[Base]) -> set[str]:
    """Return the columns in the indexes of a table, and in the conditions of these."""
    found: set[str] = set()
    own = Base.metadata.tables[table.__tablename__]
    for index in own.indexes:
        condition = index.dialect_options["postgresql"]["where"]
        for each in (*index.expressions, condition):
            found |= set(re.findall(r"\w+", str(each)))
    return found & set(own.columns.keys())


def test_the_stages_of_a_session_write_to_no_index_but_that_of_a_found_time() -> None:
    stages = (ProcessDone, SplitDone, AggregateDone)
    written = {name for stage in stages for name in stage.__annotations__} - set(OF_RESULT)
    written |= {"state", *(column.key for column in CARRIED)}
    assert written & indexed(AudioSession) == {"recorded_at"}


def test_claims_and_leases_write_to_no_index() -> None:
    claimed = at_claim(UnfinishedSession, lease_s=1.0)
    assert not {*claimed, "due_at", "last_error", "spans_finished"} & indexed(UnfinishedSession)
    # A move to the next stage changes its place in the order.
    assert {"state"} <= indexed(UnfinishedSession)
    assert not set(BEGINNING) & indexed(UnfinishedSession)
