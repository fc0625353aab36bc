"""``clamor sessions delete``: delete sessions."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Sequence

from services.client import ApiError, Client


def run(client: Client, session_ids: Sequence[uuid.UUID], *, only_audio: bool) -> int:
    """Delete the named sessions, or their recordings alone; return 1 if one was refused."""
    refused = 0
    for session_id in session_ids:
        try:
            (client.delete_audio if only_audio else client.delete)(session_id)
        except ApiError as error:
            print(f"clamor: {session_id}: {error}", file=sys.stderr)
            refused += 1
    what = "recordings" if only_audio else "sessions"
    print(f"{len(session_ids) - refused} of {len(session_ids)} {what} are deleted", file=sys.stderr)
    return 1 if refused else 0


def run_all(client: Client, *, is_confirmed: bool, **which: object) -> int:
    """Count the sessions that match, and delete them if that is confirmed; return 0.

    The models that learned from deleted sessions are printed, one a line.
    """
    counted = client.delete_matching(**which, dry_run=True)
    held = f"; {counted.held} more are under legal hold" if counted.held else ""
    if not is_confirmed:
        print(f"{counted.left} sessions match{held}; delete them with --yes", file=sys.stderr)
        return 0
    total, models = 0, set[uuid.UUID]()
    while True:
        done = client.delete_matching(**which)
        total += done.deleted
        models.update(done.trained_models)
        # Sessions that are posted meanwhile may match too.
        if not done.deleted or total >= counted.left:
            break
    print(f"{total} of {counted.left} sessions are deleted{held}", file=sys.stderr)
    for model_id in sorted(models):
        print(f"model {model_id} learned from deleted sessions")
    return 0
