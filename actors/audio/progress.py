"""How far a stage of a session is."""

from __future__ import annotations

from collections.abc import Callable

from actors.hold import Hold
from actors.progress import Teller
from actors.runtime import Runtime
from db import queries
from db.claims import Work


def of_stage(runtime: Runtime, work: Work, hold: Hold) -> Callable[[float], None]:
    """Is told the share of a stage that is done, in [0, 1], as often as one likes.

    It stops work that is in vain, too: see :meth:`Hold.check`.
    """
    teller = Teller(runtime, hold)

    def tell(share: float) -> None:
        share = min(max(share, 0.0), 1.0)
        teller.tell(lambda db: queries.note_share(db, work, attempt=hold.attempt, share=share))

    return tell
