"""``clamor user erase``: remove a user with everything of theirs."""

from __future__ import annotations

import math
import sys

import msgspec

from db.blobs.blob_store import Blobs
from db.queries import removal_queries
from db.queries.removal_queries import SessionFilter
from db.settings import Settings
from services.api.accounts.erasure import Eraser
from services.cli.actions import accounts, targets
from services.http.errors import ServiceError, UserError


def run(settings: Settings, user: str, *, is_confirmed: bool) -> int:
    """Erase a user and print the receipt as JSON, or count the sessions; return 0."""
    with targets.store(settings) as store:
        user_id = accounts.find_user_id(store, user)
        if not is_confirmed:
            with store.reading() as tx:
                n_free, n_held = removal_queries.count(tx, SessionFilter(owner=user_id))
            held = f", {n_held} of them under legal hold" if n_held else ""
            print(f"{n_free + n_held} sessions{held}; erase the user with --yes", file=sys.stderr)
            return 0
        try:
            # As one call, which ends when nothing is left.
            receipt = Eraser(store, Blobs.of(settings), user_id).run(lasts_s=math.inf)
        except ServiceError as error:
            raise UserError(str(error)) from error
    print(msgspec.json.format(msgspec.json.encode(receipt), indent=2).decode())
    return 0
