"""``analyze_session_data``: what a session that has ended comes to."""

from __future__ import annotations

import uuid
from functools import partial
from typing import Any

from actors.analytics import analysis_answer
from actors.analytics.analysis_answer import Given
from actors.execution import runner
from actors.execution.failures import ClaimLost
from actors.execution.lease import Lease
from actors.execution.progress import Bar
from actors.execution.runtime import Runtime
from actors.messaging.messages import AnalyzeSession
from actors.science.levels.levels import LevelSeries
from actors.science.summaries.session_analysis import Events
from db.blobs import BlobMissing, Blobs
from db.queries import analysis_queries, session_queries
from db.queries.analysis_queries import STEP, AnalysisWork

#: The share of the bar that reading takes.
READ_SHARE = 0.6


def analyze_session_data(runtime: Runtime, nudge: AnalyzeSession) -> None:
    """Reckon the analysis of a session from its events, its levels and the runs of its steps.

    All of it is as it was at the session's end, so that an analysis that is made again is the same.
    """
    take = partial(analysis_queries.take_analysis, nudge.session_id)
    runner.run(runtime, nudge, take, partial(_analyze, runtime))


def _analyze(runtime: Runtime, work: AnalysisWork) -> runner.Step:
    def perform(lease: Lease) -> runner.Outcome:
        bar = Bar(runtime, work, lease)
        bar.tell(0.0, "reading")
        given = _read(runtime, work.id)
        bar.tell(READ_SHARE, "reckoning")
        values = {"percent": 100, "stage": "done", "result": analysis_answer.document(given)}
        return runner.Outcome(runner.move_on(work, to="completed", values=values))

    return runner.Step(name=STEP, work=work, perform=perform, give_up=runner.fail(work))


def _read(runtime: Runtime, session_id: uuid.UUID) -> Given:
    with runtime.store.transaction() as db:
        session = session_queries.get_session(db, session_id)
        analysis = analysis_queries.get_analysis(db, session_id)
        if session is None or analysis is None:
            # It was removed, and its analysis with it.
            raise ClaimLost
        limits_db: dict[str, Any] = analysis.limits_db
        events = Events.of(**analysis_queries.event_columns(db, session_id))
        runs = analysis_queries.runs_of(db, session_id)
        n_failed = analysis_queries.count_failed_spans(db, session_id)
    return Given(
        session=session,
        limits_db=limits_db,
        events=events,
        levels=_levels(runtime.blobs, session.levels_key),
        runs=runs,
        spans_failed=n_failed,
    )


def _levels(blobs: Blobs, key: str | None) -> LevelSeries | None:
    """The levels of a recording; none if it was never measured, or if they are no longer stored."""
    try:
        return None if key is None else LevelSeries.from_bytes(blobs.get(key))
    except BlobMissing:
        return None
