"""``analyze_session_data``: compute the analysis of a finished session."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from functools import partial

import msgspec

from actors.analytics import analysis_answer
from actors.analytics.analysis_answer import Given
from actors.execution import runner
from actors.execution.failures import still_there
from actors.execution.lease import Lease
from actors.execution.progress import Bar
from actors.execution.runtime import Runtime
from actors.messaging.messages import AnalyzeSession
from actors.science.levels.levels import LevelHistory
from actors.science.summaries.session_analysis import Events
from db.blobs.blob_store import Blobs
from db.blobs.errors import BlobMissing
from db.queries import analysis_queries, session_queries
from db.queries.analysis_queries import (
    STEP,
    AnalysisDone,
    AnalysisWork,
    EventColumns,
    StepRuns,
)
from db.queries.session_queries import NewDetectionRow
from db.tables.sessions import AudioSession

#: The share of the progress for reading.
READ_SHARE = 0.6


def analyze_session_data(runtime: Runtime, nudge: AnalyzeSession) -> None:
    """Compute the analysis of a session from its detections, its levels and the runs of its steps.

    These do not change after the session's end, so repeating the analysis gives the same result.
    """
    take = partial(analysis_queries.take_analysis, nudge.session_id)
    runner.run(runtime, nudge, take, partial(_analyze, runtime))


def _analyze(runtime: Runtime, work: AnalysisWork) -> runner.Task:
    def perform(lease: Lease) -> runner.Result:
        bar = Bar(runtime, work, lease)
        bar.tell(0.0, "reading")
        given = _read(runtime, work.id)
        bar.tell(READ_SHARE, "computing")
        return runner.Result(runner.move_on(work, to="completed", values=_done(given)))

    return runner.Task(name=STEP, work=work, perform=perform, give_up=runner.fail(work))


def at_the_end(
    runtime: Runtime,
    session: AudioSession,
    detections: Sequence[NewDetectionRow],
    runs: Sequence[StepRuns],
) -> AnalysisDone:
    """Compute the analysis of a session that is about to end, before its rows are written.

    ``session`` has the values of its end already, and no failed spans.
    """
    events = EventColumns(
        start_s=[each["start_s"] for each in detections],
        end_s=[each["end_s"] for each in detections],
        noise_type=[each["noise_type"] for each in detections],
        confidence=[each["confidence"] for each in detections],
        laeq_db=[each.get("laeq_db") for each in detections],
        lafmax_db=[each.get("lafmax_db") for each in detections],
    )
    return _done(
        Given(
            session=session,
            limits_db={},
            events=Events.of(**events),
            levels=_levels(runtime.blobs, session.levels_key),
            runs=runs,
            spans_failed=0,
        )
    )


def _done(given: Given) -> AnalysisDone:
    result = msgspec.to_builtins(analysis_answer.document(given))
    return AnalysisDone(percent=100, stage="done", result=result)


def _read(runtime: Runtime, session_id: uuid.UUID) -> Given:
    with runtime.store.transaction() as tx:
        session = still_there(session_queries.get_session(tx, session_id))
        # It is removed with its session.
        analysis = still_there(analysis_queries.get_analysis(tx, session_id))
        events = Events.of(**analysis_queries.event_columns(tx, session_id))
        runs = analysis_queries.runs_of(tx, session_id)
        n_failed = analysis_queries.count_failed_spans(tx, session_id)
    return Given(
        session=session,
        limits_db=analysis.limits_db,
        events=events,
        levels=_levels(runtime.blobs, session.levels_key),
        runs=runs,
        spans_failed=n_failed,
    )


def _levels(blobs: Blobs, key: str | None) -> LevelHistory | None:
    """Return the levels of a recording; None if never measured, or no longer stored."""
    try:
        return None if key is None else LevelHistory.from_bytes(blobs.get(key))
    except BlobMissing:
        return None
