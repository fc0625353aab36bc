"""The seconds of a recording that are missing from its answer, with reasons."""

from __future__ import annotations

from collections.abc import Sequence

from actors.facts import rounding
from actors.science.summaries.intervals import covered_s
from actors.science.types import HoleKind
from db.tables.base import MissingPart, StoredProblem
from db.tables.sessions import AudioSession

#: The reasons for holes in the recording. A late start is none: nothing is lost.
_REASONS = {
    HoleKind.GAP: "the file has no audio for this time",
    HoleKind.BAD_SAMPLES: "the samples are not finite numbers, or are absurdly large",
    HoleKind.NOT_TRIGGERED: "the recorder did not record below its trigger",
}


def audio_begins_s(session: AudioSession) -> float:
    """Return how many seconds after the beginning of a file its audio begins."""
    for hole in session.holes or ():
        if hole["kind"] == HoleKind.LATE_START:
            return rounding.seconds(hole["end_s"])
    return 0.0


def parts(
    session: AudioSession, failed: Sequence[tuple[float, float, str | None]]
) -> list[MissingPart]:
    """Return the missing intervals in order.

    Parameters
    ----------
    failed
        ``(start_s, end_s, reason)`` of each span that failed.
    """
    assert session.duration_s is not None
    missing = [
        _part(start_s, min(end_s, session.duration_s), reason or "unknown")
        for start_s, end_s, reason in failed
    ]
    for hole in session.holes or ():
        reason = _REASONS.get(HoleKind(hole["kind"]))
        if reason is not None:
            missing.append(_part(hole["start_s"], hole["end_s"], reason))
    if session.missing_s:
        missing.append(
            _part(
                session.duration_s,
                session.duration_s + session.missing_s,
                "the file holds less audio than its header promises",
            )
        )
    return sorted(missing, key=lambda part: part["start_s"])


def problem(missing: Sequence[MissingPart], note: str | None) -> StoredProblem | None:
    """Describe what the answer lacks: seconds, or names by the backbone, as ``note`` explains."""
    if not missing:
        return None if note is None else StoredProblem(code="backbone-missing", detail=note)
    lost_s = covered_s((part["start_s"], part["end_s"]) for part in missing)
    # Two decimals, but not 0.00.
    lost = f"{max(lost_s, 0.01):.2f} s of the recording are missing from the answer"
    return StoredProblem(
        code="seconds-missing",
        detail="; ".join([lost, *([] if note is None else [note])]),
        missing=list(missing),
    )


def _part(start_s: float, end_s: float, reason: str) -> MissingPart:
    # Never empty, although a hole may be a single sample.
    shown_s = rounding.seconds(start_s)
    end_s = max(end_s, shown_s + 10**-rounding.SECOND_DECIMALS)
    return MissingPart(start_s=shown_s, end_s=rounding.seconds(end_s), reason=reason)
