"""Celery with Clamor's science: one task a recording, and its rows in one transaction."""

from __future__ import annotations

import uuid
from pathlib import Path

from tests.benchmarks.peers import application, rows, science
from tests.benchmarks.peers.rows import Recording


def process(recording_id: str) -> None:
    """Process a recording."""
    key = uuid.UUID(recording_id)
    with rows.transaction() as session:
        file = Path(session.get_one(Recording, key).path)
    of, found = science.complete(file)
    science.write_products(file.parent / "products", recording_id, of, found)
    with rows.transaction() as session:
        rows.finish(session, session.get_one(Recording, key), found)


app = application.create()
send = app.task(name="peers.whole")(process)
