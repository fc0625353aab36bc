"""Delete many sessions by what they have in common: counted first, then page by page."""

from __future__ import annotations

import uuid
from typing import Annotated

import falcon
import msgspec

from db.queries import removal_queries
from db.queries.removal_queries import SessionFilter
from db.tables.sessions import METADATA_BYTES, METADATA_KEYS
from services.api.common.parameters import Time
from services.api.sessions.list_schemas import SessionState
from services.http.access import ADMIN, owner, principal
from services.http.caller_errors import MissingScope
from services.http.operations import body_of, operation
from services.http.resource import Resource
from services.http.responses import answer

#: Sessions, and spans of theirs, that one request deletes at most, in one transaction. A request
#: shall be answered within two seconds.
MOST_DELETED, MOST_SPANS = 500, 2_000

#: A name or a text in the caller's metadata.
Text = Annotated[str, msgspec.Meta(max_length=METADATA_BYTES)]
OF_METADATA = msgspec.Meta(max_length=METADATA_KEYS)


class NewDeletions(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Which sessions to delete. All conditions must hold, and there must be at least one."""

    #: Only sessions in these states.
    states: Annotated[list[SessionState], msgspec.Meta(min_length=1, max_length=8)] | None = None
    #: Only sessions of this batch.
    batch_id: uuid.UUID | None = None
    #: Only sessions posted at this time or later.
    created_from: Time | None = None
    #: Only sessions posted before this time.
    created_to: Time | None = None
    #: Only recordings that began at this time or later. Without a known time none matches.
    recorded_from: Time | None = None
    #: Only recordings that began before this time.
    recorded_to: Time | None = None
    #: Only sessions with this metadata: each key with this value.
    metadata: Annotated[dict[Text, Text | int | float | bool], OF_METADATA] | None = None
    #: Only sessions of this user; for administrators.
    user_id: uuid.UUID | None = None
    #: Whether to only count the sessions.
    dry_run: bool = False

    def __post_init__(self) -> None:
        names = (name for name in self.__struct_fields__ if name != "dry_run")
        if all(getattr(self, name) is None for name in names):
            raise ValueError("give at least one condition; created_to is enough for all sessions")


class Deletions(msgspec.Struct, kw_only=True):
    """What a request to delete sessions did."""

    #: Sessions that are deleted; at most 500.
    deleted: int
    #: Sessions that match and are not. Repeat the request to delete them.
    left: int
    #: Sessions that match, are under legal hold, and stay. They are not among those left.
    held: int
    #: Models that learned from the deleted sessions. They are not changed.
    trained_models: list[uuid.UUID]


class SessionDeletions(Resource):
    """``POST /v1/sessions/deletions``."""

    @operation(scope="sessions:write", body=NewDeletions, answer=Deletions)
    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Delete sessions as ``DELETE /v1/sessions/{session_id}`` does, at most 500 with each
        request, the oldest first. With ``dry_run``, count them. An administrator's key deletes the
        sessions of all users.
        """
        asked = body_of(req, NewDeletions)
        if asked.user_id is not None and not principal(req).is_admin:
            raise MissingScope(f"a filter by user requires a key with the scope {ADMIN}")
        which = SessionFilter(
            owner=owner(req) or asked.user_id,
            states=asked.states or (),
            batch_id=asked.batch_id,
            created_from=asked.created_from,
            created_to=asked.created_to,
            recorded_from=asked.recorded_from,
            recorded_to=asked.recorded_to,
            metadata=asked.metadata or {},
        )
        with self.deps.store.transaction() as tx:
            ids = (
                ()
                if asked.dry_run
                else removal_queries.page(tx, which, limit=MOST_DELETED, most_spans=MOST_SPANS)
            )
            trained = removal_queries.models_trained_on(tx, ids)
            deleted = removal_queries.forget_sessions(tx, ids).ids
            left, held = removal_queries.count(tx, which)
        answer(
            resp,
            Deletions(deleted=len(deleted), left=left, held=held, trained_models=sorted(trained)),
        )
