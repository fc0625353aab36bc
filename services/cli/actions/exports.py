"""``clamor export``: write detections to a file on this machine."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console

from services.cli.actions.bars import Bars
from services.client import Client
from services.client.wire.exports import ExportTask


def run(
    client: Client,
    session_ids: Sequence[uuid.UUID],
    *,
    format: str,
    narrowed: Mapping[str, object],
    out: Path,
    bars: Console,
) -> int:
    """Request an export, wait for it, and download it; return 1 if it failed."""
    told = {name: value for name, value in narrowed.items() if value not in (None, [])}
    asked = {"format": format, "session_ids": [str(each) for each in session_ids], **told}
    export = client.export(asked)
    with Bars(bars) as shown:
        task = shown.add_task(f"export {format}", total=100, stage=export.stage)

        def tell(seen: ExportTask) -> None:
            shown.update(task, completed=seen.percent, stage=seen.stage)

        export = client.wait_for_export(export, on_change=tell)
        if export.problem is not None:
            print(f"clamor: the export failed: {export.problem.detail}", file=sys.stderr)
            return 1
        total = max(export.size_bytes or 0, 1)
        fetching = shown.add_task("fetch", total=total, stage="")
        client.fetch_export(
            export.id, out, on_bytes=lambda n_bytes: shown.advance(fetching, n_bytes)
        )
    print(f"{out}: {export.rows_written} events, {export.size_bytes} bytes")
    return 0
