"""``clamor batch``: many recordings in one request, with a bar and a table of the results."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, TaskID
from rich.table import Table

from services.cli.actions.bars import Bars
from services.cli.actions.processing import UPLOAD_PERCENT
from services.client import ApiError, Client, Options
from services.client.wire.batches import UNFINISHED_ITEM_STATES, Batch, BatchItem

#: States of a file that has a result.
GOOD_STATES = ("completed", "partial")


def run(client: Client, what: Sequence[Path] | str, *, options: Options, bars: Console) -> int:
    """Send files, or name those below a prefix; wait for all and return the exit code."""
    with Bars(bars) as progress:
        bar = progress.add_task("batch", total=100, stage="starting")
        if isinstance(what, str):
            sent_percent = 0
            batch = client.name_batch(what, options=options)
        else:
            sent_percent = UPLOAD_PERCENT
            batch = _send(client, what, options, progress, bar)
        batch = client.wait_for_batch(batch, on_change=_shower(progress, bar, sent_percent))
        _shower(progress, bar, sent_percent)(batch)
    items = client.batch_items(batch.id)
    out = Console()
    _print(batch, items, out)
    all_good = batch.state == "finished" and all(item.state in GOOD_STATES for item in items)
    return 0 if all_good and batch.problem is None else 1


def _send(
    client: Client,
    files: Sequence[Path],
    options: Options,
    progress: Progress,
    bar: TaskID,
) -> Batch:
    n_bytes = sum(path.stat().st_size for path in files)
    share = UPLOAD_PERCENT / max(n_bytes, 1)
    progress.update(bar, stage="uploading")
    batch_id = uuid.uuid4()
    try:
        return client.send_batch(
            files,
            batch_id=batch_id,
            options=options,
            on_bytes=lambda sent: progress.advance(bar, sent * share),
        )
    except ApiError as error:
        try:
            batch = client.batch(batch_id)
        except ApiError:
            raise error from None
        raise ApiError(
            f"{error}. {batch.files_total} of {len(files)} files had arrived and are being "
            f"processed as batch {batch_id}"
        ) from None


def _shower(progress: Progress, bar: TaskID, sent_percent: int) -> Callable[[Batch], None]:
    def show(batch: Batch) -> None:
        done = sum(n for name, n in batch.files.items() if name not in UNFINISHED_ITEM_STATES)
        progress.update(
            bar,
            completed=sent_percent + batch.percent * (100 - sent_percent) / 100,
            stage=f"{batch.state}, {done} of {batch.files_total} files",
        )

    return show


def _print(batch: Batch, items: Sequence[BatchItem], out: Console) -> None:
    table = Table()
    for heading, justify in (
        ("file", "left"),
        ("state", "left"),
        ("recorded", "left"),
        ("s", "right"),
        ("events", "right"),
        ("reason", "left"),
    ):
        table.add_column(
            heading, justify="right" if justify == "right" else "left", overflow="fold"
        )
    for item in items:
        table.add_row(
            escape(item.file_name),
            item.state,
            "" if item.recorded_at is None else f"{item.recorded_at:%Y-%m-%d %H:%M:%S}Z",
            "" if item.duration_s is None else f"{item.duration_s:.1f}",
            "" if item.events is None else str(item.events),
            escape(item.reason or ""),
        )
    out.print(table)
    good = sum(item.state in GOOD_STATES for item in items)
    events = sum(each.events for each in batch.noise_types.values())
    out.print(f"{good} of {len(items)} files, {batch.duration_s:.1f} s of audio, {events} events")
    for name, each in batch.noise_types.items():
        out.print(f"  {name}: {each.events} events, {each.total_s:.1f} s", markup=False)
    if batch.problem is not None:
        out.print(batch.problem.detail, style="yellow", markup=False)
    out.print(f"batch {batch.id}: {batch.state}")
