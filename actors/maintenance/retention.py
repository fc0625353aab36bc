"""``cleanup_old_sessions`` and ``cleanup_failed_sessions``: remove sessions past their retention.

Sessions are removed page by page, so that locks are short and concurrent writers do not wait. The
rows of a page are removed first, in one transaction; then the blobs. If the worker dies in between,
recovery removes the blobs. Sessions with a legal hold are never touched.
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Sequence
from functools import partial

import msgspec
import structlog
from sqlalchemy.orm import Session

from actors.execution.runtime import Runtime
from actors.maintenance import ownership, removals
from actors.messaging.messages import CleanUpFailedSessions, CleanUpOldSessions
from actors.scheduling import job_runs
from actors.scheduling.job_runs import ScheduledRun
from actors.science.audio_io import clips, decode
from actors.science.errors import RecordingError
from db.blobs.errors import BlobMissing
from db.blobs.keys import clip_key, session_prefix
from db.ids import new_id
from db.queries import retention_queries
from db.queries.retention_queries import NewClipRow, Past, RankedEvent
from db.tables.documents.job_results import RetentionResult

log = structlog.get_logger(__name__)

#: Sessions per transaction. More means fewer commits; fewer means shorter locks.
PAGE_SESSIONS = 100
#: Spans per transaction, each a minute of audio with 19 kB of scores. A hundred recordings of a day
#: have 144,000 spans: removing them at once took 11 s with everything in memory, and a statement
#: may take 30 s.
PAGE_SPANS = 2_000
DAY_S = 86_400.0
#: The age at which failed and never-ending sessions are removed, unless the options differ.
FAILED_HOURS = 24.0
HOUR_S = 3_600.0


class RetentionOptions(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The options of a run, which override the settings."""

    #: The least age in days; for failed sessions, in hours.
    older_than_days: float | None = None
    older_than_hours: float | None = None
    #: How many of the most confident detections per user and noise type keep their audio.
    keep_best: int | None = None
    #: Only count, remove nothing.
    dry_run: bool = False

    def __post_init__(self) -> None:
        for name in ("older_than_days", "older_than_hours", "keep_best"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise ValueError(f"{name} must not be negative")


def cleanup_old_sessions(runtime: Runtime, nudge: CleanUpOldSessions) -> None:
    """Remove finished sessions past their retention."""
    job_runs.run(runtime, nudge, partial(_clean_up, failed=False))


def cleanup_failed_sessions(runtime: Runtime, nudge: CleanUpFailedSessions) -> None:
    """Remove sessions that failed, or have not ended, a day after their upload or a restore."""
    job_runs.run(runtime, nudge, partial(_clean_up, failed=True))


def _clean_up(run: ScheduledRun, *, failed: bool) -> RetentionResult:
    runtime, options = run.runtime, run.asked(RetentionOptions)
    past = _past(runtime, options, failed=failed)
    keep_best = runtime.settings.keep_best if options.keep_best is None else options.keep_best
    is_spared = failed and _is_just_restored(runtime, past)
    n_sessions, duration_s, size_bytes = 0, 0.0, 0
    if not is_spared:
        with runtime.store.transaction() as tx:
            n_sessions, duration_s, size_bytes = retention_queries.count_past(tx, past)
    found = RetentionResult(
        older_than_s=past.older_than_s,
        dry_run=options.dry_run,
        sessions=n_sessions,
        duration_s=duration_s,
        size_bytes=size_bytes,
    )
    if options.dry_run:
        return found
    ownership.require(runtime)
    removed = kept = 0
    while not is_spared:
        n_removed, n_kept = _remove_page(run, past, keep_best=0 if failed else keep_best)
        if not n_removed:
            break
        removed, kept = removed + n_removed, kept + n_kept
        run.bar.tell(min(removed / max(n_sessions, 1), 1.0), "removing sessions")
    found["sessions"], found["kept_clips"] = removed, kept
    return found


def _is_just_restored(runtime: Runtime, past: Past) -> bool:
    """Whether the database was restored so recently that its sessions are spared.

    Sessions that were under way in the dump are older than the restore. They get as long as new
    ones to end, from the restore on.
    """
    restored_s = ownership.restored_s(runtime)
    return restored_s is not None and restored_s < past.older_than_s


def _past(runtime: Runtime, options: RetentionOptions, *, failed: bool) -> Past:
    if failed:
        hours = FAILED_HOURS if options.older_than_hours is None else options.older_than_hours
        return Past(hours * HOUR_S, failed=True)
    days = options.older_than_days
    return Past((runtime.settings.keep_days if days is None else days) * DAY_S)


def _remove_page(run: ScheduledRun, past: Past, *, keep_best: int) -> tuple[int, int]:
    """Remove a page of sessions; return their number and that of the clips kept."""
    run.lease.check()
    runtime = run.runtime
    with runtime.store.transaction() as tx:
        ids = retention_queries.page_past(tx, past, limit=PAGE_SESSIONS, most_spans=PAGE_SPANS)
        events = _worth_keeping(tx, ids, most=keep_best) if keep_best else []
    # Outside any transaction, since decoding takes longer than a lock should be held.
    clip_rows = _cut(runtime, events)
    dropped: list[str] = []
    try:
        with runtime.store.transaction() as tx:
            removed = retention_queries.remove_past(tx, past, ids)
            kept = [values for values in clip_rows if values["session_id"] in removed]
            for values in kept:
                retention_queries.keep_clip(tx, **values)
            if keep_best:
                dropped = retention_queries.drop_clips(tx, most=keep_best)
    except Exception:
        # If the commit succeeded anyway, the clips are needed; else ``clean_up`` removes them.
        log.warning("page_not_removed", sessions=len(ids), clips=len(clip_rows))
        raise
    removals.purge(runtime, [session_prefix(session_id) for session_id in removed])
    # A session that got a legal hold or was locked meanwhile still exists and needs no clips.
    unused = [each["blob_key"] for each in clip_rows if each["session_id"] not in removed]
    runtime.blobs.delete(*dropped, *unused)
    return len(removed), len(kept)


def _worth_keeping(tx: Session, ids: Sequence[uuid.UUID], *, most: int) -> list[RankedEvent]:
    """Return the detections that are more confident than the least confident clip kept."""
    least = retention_queries.least_kept(tx, most=most)
    return [
        event
        for event in retention_queries.best_events(tx, ids, most=most)
        if event.confidence > least.get((event.user_id, event.noise_type), -1.0)
    ]


def _cut(runtime: Runtime, events: Sequence[RankedEvent]) -> list[NewClipRow]:
    """Store clips of some detections; return the values of their rows."""
    by_recording: defaultdict[str, list[RankedEvent]] = defaultdict(list)
    for event in events:
        by_recording[event.served_key].append(event)
    rows = []
    for key, of_one in by_recording.items():
        try:
            with runtime.blobs.open(key) as file, decode.open_recording(file) as decoder:
                found = clips.cut(decoder, [(event.start_s, event.end_s) for event in of_one])
                rate_hz = decoder.format.rate_hz
        except (BlobMissing, RecordingError) as error:
            # Its session is removed anyway.
            log.warning("clips_not_kept", error=type(error).__name__, events=len(of_one))
            continue
        for event, samples in zip(of_one, found, strict=True):
            if not len(samples):
                continue
            clip_id = new_id()
            content = clips.to_flac(samples, rate_hz, used=event.used or ())
            runtime.blobs.put(clip_key(clip_id), content)
            rows.append(
                NewClipRow(
                    id=clip_id,
                    blob_key=clip_key(clip_id),
                    user_id=event.user_id,
                    noise_type=event.noise_type,
                    confidence=event.confidence,
                    session_id=event.session_id,
                    file_name=event.file_name,
                    start_s=event.start_s,
                    end_s=event.end_s,
                    sent_at=event.sent_at,
                )
            )
    return rows
