"""Queries for the clips of detections, which are exports that are not listed."""

from __future__ import annotations

import uuid
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import Session

from db.tables.base import untried_now
from db.tables.exports import CLIP, Export
from db.tables.sessions import AudioSession


def get_clip(tx: Session, detection_id: uuid.UUID) -> Export | None:
    """Return the export of a detection's clip; None without one, or if it has expired."""
    return tx.scalars(
        select(Export).where(
            Export.id == detection_id, Export.format == CLIP, Export.expires_at > func.now()
        )
    ).one_or_none()


def ask_for_clip(
    tx: Session,
    detection_id: uuid.UUID,
    *,
    session: AudioSession,
    expires_at: datetime,
    traceparent: str | None,
) -> bool:
    """Request the clip of a detection, new or again; False if it is pending already."""
    asked = {
        "expires_at": expires_at,
        "traceparent": traceparent,
        # A session whose user was removed is seen by administrators only.
        "user_id": session.user_id,
        "all_users": session.user_id is None,
        "state": "pending",
    }
    again = {
        **untried_now(),
        "problem": None,
        "blob_key": None,
    }
    statement = (
        postgresql.insert(Export)
        .values(
            id=detection_id,
            format=CLIP,
            session_id=session.id,
            selection={"session_ids": [str(session.id)]},
            **asked,
        )
        .on_conflict_do_update(
            index_elements=["id"], set_=asked | again, where=Export.state != "pending"
        )
        .returning(Export.id)
    )
    return tx.execute(statement).one_or_none() is not None
