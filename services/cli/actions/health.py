"""``clamor health``: the latest health check, as a table and an exit code."""

from __future__ import annotations

import json
import sys
from datetime import timedelta

from rich.console import Console
from rich.table import Table

from db import typed
from db.queries import job_run_queries, session_queries
from db.settings import Settings
from db.tables.documents.job_results import HealthResult
from services.cli.actions import targets

JOB = "health_check"
#: The health check runs every hour; an older result no longer describes the present.
OLDEST = timedelta(hours=2)

WELL, UNWELL = 0, 1


def show(settings: Settings, *, as_json: bool) -> int:
    """Show the latest check; return 1 if a check failed or if the result is too old."""
    with targets.store(settings) as store, store.transaction() as tx:
        run, now = job_run_queries.latest_result(tx, JOB), session_queries.clock(tx)
    if run is None or run.result is None or run.finished_at is None:
        print("clamor: no health check has run yet; see clamor schedule", file=sys.stderr)
        return UNWELL
    found = typed.convert(run.result, HealthResult)
    is_old = now - run.finished_at > OLDEST
    if as_json:
        print(json.dumps({"checked_at": run.finished_at.isoformat(), **run.result}))
    else:
        table = Table("part", "", "what", title=f"checked at {run.finished_at:%Y-%m-%d %H:%M} UTC")
        for name, check in found["checks"].items():
            what = found["faults"].get(name) or ", ".join(
                f"{key} {value}" for key, value in check.items() if key != "ok" and value
            )
            table.add_row(name, "ok" if check["ok"] else "FAULT", what)
        Console().print(table)
    if is_old:
        print("clamor: the latest health check is too old; see clamor schedule", file=sys.stderr)
    return WELL if found["healthy"] and not is_old else UNWELL
