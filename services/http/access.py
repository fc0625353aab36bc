"""Who calls, and whether they may.

A key is shown as ``Authorization: Bearer clamor_...``. Its row is looked up with every request,
so that a key which is revoked is refused from the next request on.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass

import falcon

from db.queries import account_queries
from db.store import Store
from services.http import exchange as exchanges
from services.http import keys, operations
from services.http.errors import MissingScope, Unauthenticated
from services.http.rate_limits import RateLimiter

#: A key that may do this may do everything, and sees what all users have.
ADMIN = "admin"


@dataclass(frozen=True)
class Principal:
    """Whom a key stands for, and what it allows."""

    user_id: uuid.UUID
    key_id: str
    scopes: frozenset[str]
    #: The key's own rate; None for the installation's.
    requests_per_s: float | None = None
    #: The user's own limit; None for the installation's.
    max_audio_s_per_month: float | None = None

    @property
    def is_admin(self) -> bool:
        """Whether everything is allowed."""
        return ADMIN in self.scopes

    @property
    def owner(self) -> uuid.UUID | None:
        """Whose rows are shown: the user's; None for all, as queries take it."""
        return None if self.is_admin else self.user_id

    def may(self, scope: str) -> bool:
        """Whether something is allowed."""
        return self.is_admin or scope in self.scopes


class Access:
    """Middleware: no responder runs before its caller is known and allowed."""

    def __init__(
        self, store: Store, hasher: keys.Hasher, *, limiter: RateLimiter | None = None
    ) -> None:
        self._store = store
        self._hasher = hasher
        self._limiter = limiter

    def process_resource(
        self, req: falcon.Request, resp: falcon.Response, resource: object, _params: object
    ) -> None:
        """Name the caller.

        Raises
        ------
        Unauthenticated, RateLimited, MissingScope
        """
        operation = operations.operation_of(req, resource)
        if operation is None or operation.scope is None:
            return
        caller = self._caller(req)
        req.context.principal = caller
        exchange = exchanges.of(req)
        exchange.key_id, exchange.user_id = caller.key_id, caller.user_id
        if self._limiter is not None:
            self._limiter.enforce(resp, key_id=caller.key_id, per_s=caller.requests_per_s)
        if not caller.may(operation.scope):
            raise MissingScope(f"this needs a key with the scope {operation.scope}")

    def _caller(self, req: falcon.Request) -> Principal:
        kind, _, shown = (req.get_header("Authorization") or "").partition(" ")
        if not shown or kind.lower() != "bearer":
            raise Unauthenticated("show a key: Authorization: Bearer clamor_...")
        key = keys.parse(shown.strip())
        if key is None:
            raise Unauthenticated("this is no key of Clamor's")
        row = account_queries.credential(self._store, key.id)
        # One answer for a key that is not there and one that is not right: ids are no secrets,
        # but which of them exist is nobody's business.
        if row is None or not self._hasher.fits(key, row.secret_hash):
            raise Unauthenticated("this key is not known")
        if row.is_revoked or row.is_expired or row.is_disabled:
            what = "was revoked" if row.is_revoked else "has expired"
            raise Unauthenticated(f"this key {what if not row.is_disabled else 'is disabled'}")
        return Principal(
            row.user_id,
            key.id,
            frozenset(row.scopes),
            requests_per_s=row.requests_per_s,
            max_audio_s_per_month=row.max_audio_s_per_month,
        )


def principal(req: falcon.Request) -> Principal:
    """Who calls; only of requests whose operation has a scope."""
    known: Principal = req.context.principal
    return known


def owner(req: falcon.Request) -> uuid.UUID | None:
    """Whose rows the caller is shown; None for everybody's."""
    return principal(req).owner
