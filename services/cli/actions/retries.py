"""``clamor sessions retry``: process failed sessions again."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Sequence

from services.client import ApiError, Client


def run(client: Client, session_ids: Sequence[uuid.UUID]) -> int:
    """Retry the named sessions; return 1 if one was refused."""
    refused = 0
    for session_id in session_ids:
        try:
            session = client.retry(session_id)
        except ApiError as error:
            print(f"clamor: {session_id}: {error}", file=sys.stderr)
            refused += 1
        else:
            print(f"{session.id} {session.state} {session.file_name}")
    retried = len(session_ids) - refused
    print(f"{retried} of {len(session_ids)} sessions are retried", file=sys.stderr)
    return 1 if refused else 0


def run_all(client: Client, *, is_confirmed: bool, **which: str) -> int:
    """Count the failed sessions that match, and retry them if that is confirmed; return 0."""
    matching = client.retry_failed(**which, dry_run=True).left
    if not is_confirmed:
        print(f"{matching} sessions match; retry them with --yes", file=sys.stderr)
        return 0
    total = 0
    while True:
        done = client.retry_failed(**which)
        total += done.retried
        # What is left may be held by another call, or fail again meanwhile.
        if not done.retried or total >= matching:
            break
    print(f"{total} of {matching} sessions are retried", file=sys.stderr)
    return 0
