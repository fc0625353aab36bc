"""The generated references: the tables of docs/dba.md."""

from __future__ import annotations

from db.tables.base import Base
from deploy.docs import references
from deploy.docs.tables import tables


def test_every_table_has_its_comment_key_and_relations() -> None:
    lines = {line.split("`")[1]: line for line in tables().splitlines() if line.startswith("| `")}
    assert lines.keys() == Base.metadata.tables.keys()
    detections = lines["noise_detections"]
    assert "One detection: noise type, time, levels and confidence." in detections
    assert "`session_id`, `event_index`" in detections
    assert "`session_id` to `audio_sessions`, deleted with it" in detections
    assert "`user_id` to `users`, set to null" in detections
    assert "`model_id` to `noise_models`, refuses the deletion" in lines["promotions"]
    # A unique constraint has an index too.
    assert lines["users"].endswith(" 1 |")


def test_the_tables_of_the_document_are_current() -> None:
    document = (references.DOCS / "dba.md").read_text(encoding="utf-8")
    written = document.partition(references.START)[2].removesuffix(references.END)
    assert written.strip() == tables(), "run `make references`, and commit the result"
