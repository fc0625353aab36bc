"""The progress of a session's stage."""

from __future__ import annotations

from collections.abc import Callable

from actors.execution.lease import Lease
from actors.execution.progress import Teller
from actors.execution.runtime import Runtime
from db.queries import session_queries
from db.queue.claims import SessionWork


def of_stage(runtime: Runtime, work: SessionWork, lease: Lease) -> Callable[[float], None]:
    """Return a function that reports the share of a stage that is done, in [0, 1].

    It may be called often. It also stops work that is no longer needed (:meth:`Lease.check`), and
    lets short work pass (:mod:`actors.execution.turns`).
    """
    teller = Teller(runtime, lease)

    def tell(share: float) -> None:
        share = min(max(share, 0.0), 1.0)
        runtime.turns.give(lease)
        teller.tell(
            lambda tx: session_queries.note_share(tx, work, attempt=lease.attempt, share=share)
        )

    return tell
