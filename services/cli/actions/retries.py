"""``clamor sessions retry``: process given-up sessions again."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Sequence

from db.queries.retry_queries import RETRIABLE
from db.tables.sessions import KEEP
from services.client import ApiError, Client


def run(client: Client, session_ids: Sequence[uuid.UUID]) -> int:
    """Retry the named sessions, or all retriable ones; return 1 if one was refused."""
    named = list(session_ids)
    if not named:
        failed = client.sessions(state="failed")
        named = [
            each.id
            for each in failed
            if each.problem and each.problem.code in RETRIABLE and each.privacy == KEEP
        ]
    refused = 0
    for session_id in named:
        try:
            session = client.retry(session_id)
        except ApiError as error:
            print(f"clamor: {session_id}: {error}", file=sys.stderr)
            refused += 1
        else:
            print(f"{session.id} {session.state} {session.file_name}")
    print(f"{len(named) - refused} of {len(named)} sessions are retried", file=sys.stderr)
    return 1 if refused else 0
