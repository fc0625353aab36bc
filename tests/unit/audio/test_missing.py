"""The missing seconds of a session: each is counted once."""

from __future__ import annotations

import pytest

from actors.audio import missing
from db.tables.sessions import AudioSession


def test_a_failed_span_over_holes_is_counted_once() -> None:
    session = AudioSession(
        duration_s=100.0,
        missing_s=2.0,
        holes=[
            {"start_s": 0.0, "end_s": 5.0, "kind": "late_start"},
            {"start_s": 30.0, "end_s": 40.0, "kind": "gap"},
            {"start_s": 55.0, "end_s": 65.0, "kind": "bad_samples"},
        ],
    )
    parts = missing.parts(session, [(20.0, 60.0, "timeout"), (90.0, 101.0, None)])
    assert [(part["start_s"], part["end_s"]) for part in parts] == [
        (20.0, 60.0),
        (30.0, 40.0),
        (55.0, 65.0),
        (90.0, 100.0),
        (100.0, 102.0),
    ]
    problem = missing.problem(parts, None)
    assert problem is not None
    assert problem["code"] == "seconds-missing"
    assert float(problem["detail"].split()[0]) == pytest.approx(45 + 10 + 2)
