"""``batch_process_files``: create sessions from recordings in the blob store, page by page."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import structlog
from sqlalchemy.orm import Session

from actors.execution import runner
from actors.execution.failures import Permanent
from actors.execution.lease import Lease
from actors.execution.runtime import Runtime
from actors.messaging.messages import BatchProcessFiles, Nudge, ProcessAudioFile
from db.blobs.errors import BlobMissing, StorageUnavailable
from db.blobs.keys import INBOX, recording_key
from db.queries import batch_queries
from db.queries.batch_queries import BatchDone, BatchWork
from db.tables.base import StoredProblem
from db.tables.batches import AudioBatch, AudioBatchItem

log = structlog.get_logger(__name__)


def batch_process_files(runtime: Runtime, nudge: BatchProcessFiles) -> None:
    """Process the next page of a batch; its commit nudges for the page after it."""
    take = partial(batch_queries.take_batch, nudge.batch_id)
    runner.run(runtime, nudge, take, partial(_task, runtime))


def _task(runtime: Runtime, work: BatchWork) -> runner.Task:
    perform = {"receiving": _close, "listing": _list, "expanding": _expand}[work.state]
    return runner.Task(
        name="batch", work=work, perform=partial(perform, runtime, work), give_up=runner.fail(work)
    )


def _close(_runtime: Runtime, work: BatchWork, _hold: Lease) -> runner.Result:
    """End a batch whose upload has stalled because its server process is gone."""
    problem = StoredProblem(
        code="upload-broken-off", detail="the upload broke off; what had arrived was taken"
    )
    return runner.Result(runner.move_on(work, to="taken", values=BatchDone(problem=problem)))


def _list(runtime: Runtime, work: BatchWork, _hold: Lease) -> runner.Result:
    """Record the keys below the batch's prefix."""
    with runtime.store.transaction() as tx:
        batch = _batch(tx, work)
    assert batch.prefix is not None
    most = runtime.settings.max_batch_items
    keys = sorted(runtime.blobs.keys(batch.prefix, limit=most + 1))
    if not keys:
        raise Permanent("nothing-found", f"there are no files below {batch.prefix!r}")
    if len(keys) > most:
        raise Permanent(
            "too-many-files",
            f"there are more than {most} files below {batch.prefix!r}; use a longer prefix",
        )

    def write(tx: Session, attempt: int) -> Sequence[Nudge] | None:
        more = [BatchProcessFiles(batch_id=work.id)]
        values = BatchDone(items_total=len(keys))
        moved = runner.move_on(work, to="expanding", values=values, then=more)(tx, attempt)
        if moved is not None:
            batch_queries.add_keys(tx, work.id, ((key, None) for key in keys))
        return moved

    return runner.Result(write)


@dataclass(frozen=True)
class _Copied:
    """A recording that has been copied to the key of its session."""

    key: str
    size_bytes: int


def _expand(runtime: Runtime, work: BatchWork, lease: Lease) -> runner.Result:
    """Copy the recordings of the next items; the commit creates their sessions.

    The key of a copy is fixed per item. If the claim is lost to another worker, that worker copies
    to the same keys, so nothing may be removed. If the batch was cancelled, the copies will never
    be used and are removed.
    """
    with runtime.store.transaction() as tx:
        batch = _batch(tx, work)
        items = batch_queries.next_items(tx, work.id)
    found = _copy_all(runtime, items, lease)

    def write(tx: Session, attempt: int) -> Sequence[Nudge] | None:
        next_item = work.next_item + len(items)
        is_last = next_item == batch.items_total
        then = [] if is_last else [BatchProcessFiles(batch_id=work.id)]
        move_on = runner.move_on(
            work,
            to="taken" if is_last else work.state,
            values=BatchDone(next_item=next_item),
            then=then,
        )
        if move_on(tx, attempt) is None:
            now = batch_queries.get_batch(tx, work.id)
            if now is None or now.state not in AudioBatch.unfinished:
                runtime.blobs.delete(*(each.key for each in found if isinstance(each, _Copied)))
            return None
        return [*_write_page(tx, batch, items, found), *then]

    return runner.Result(write)


def _write_page(
    tx: Session, batch: AudioBatch, items: Sequence[AudioBatchItem], found: Sequence[_Copied | str]
) -> list[Nudge]:
    """Create sessions for copied recordings, and record the reasons for the others."""
    nudges: list[Nudge] = []
    for item, copied in zip(items, found, strict=True):
        index, name = item.item_index, item.file_name
        if isinstance(copied, str):
            batch_queries.refuse_item(tx, batch, index, file_name=name, reason=copied)
            continue
        session_id = batch_queries.take_item(
            tx,
            batch,
            index,
            file_name=name,
            size_bytes=copied.size_bytes,
            key=copied.key,
            recorded_at=item.recorded_at,
        )
        nudges.append(ProcessAudioFile(session_id=session_id))
    return nudges


def _copy_all(
    runtime: Runtime, items: Sequence[AudioBatchItem], lease: Lease
) -> list[_Copied | str]:
    """Copy each recording, or return why it cannot be copied.

    A passing failure is retried with the whole page. In the last attempt it is attributed to its
    recording alone, so that one bad file does not stop the others. If every recording fails, the
    store is at fault, and the failure is raised.
    """
    found: list[_Copied | str] = []
    failures: list[Exception] = []
    is_last_try = lease.counted >= runtime.settings.max_attempts
    for item in items:
        lease.check()
        try:
            found.append(_copy(runtime, item))
        except StorageUnavailable:
            raise
        except Exception as error:
            if not is_last_try:
                raise
            log.warning(
                "batch_item_not_copied",
                batch_id=str(item.batch_id),
                item=item.item_index,
                exc_info=error,
            )
            failures.append(error)
            found.append("it could not be read from the blob store")
    if failures and len(failures) == len(items):
        raise failures[0]
    return found


def _copy(runtime: Runtime, item: AudioBatchItem) -> _Copied | str:
    assert item.source_key is not None
    key = recording_key(batch_queries.session_id_of(item.batch_id, item.item_index))
    most_bytes = runtime.settings.max_upload_bytes
    try:
        size_bytes = runtime.blobs.size(item.source_key)
        if not size_bytes:
            return "the recording is empty"
        if size_bytes > most_bytes:
            return f"the recording is too large: at most {most_bytes} bytes are taken"
        runtime.blobs.copy(item.source_key, key)
    except BlobMissing:
        # It may have been copied before the restore of a database that does not know it, and
        # removed from the inbox since.
        with suppress(BlobMissing):
            return _Copied(key, runtime.blobs.size(key))
        return f"there is no such file below {INBOX}"
    return _Copied(key, runtime.blobs.size(key))


def _batch(tx: Session, work: BatchWork) -> AudioBatch:
    batch = batch_queries.get_batch(tx, work.id)
    assert batch is not None
    return batch
