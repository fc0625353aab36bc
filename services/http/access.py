"""Authenticate callers and check their scopes.

A key is sent as ``Authorization: Bearer clamor_...``. Its row is read with every request, so a
revocation takes effect with the next request.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass

import falcon

from db.queries import account_queries
from db.queries.account_queries import Credential
from db.store import Store
from services.http import exchange as exchanges
from services.http import keys, operations
from services.http.caller_errors import MissingScope, Unauthenticated
from services.http.rate_limits import RateLimiter
from services.http.wrong_keys import WrongKeys

#: The scope that implies all others and gives access to the data of all users.
ADMIN = "admin"


@dataclass(frozen=True)
class Principal:
    """The user of a key, and its permissions."""

    user_id: uuid.UUID
    key_id: str
    scopes: frozenset[str]
    #: The key's rate; None for the installation's default.
    requests_per_s: float | None = None
    #: The user's limit; None for the installation's default.
    max_audio_s_per_month: float | None = None

    @property
    def is_admin(self) -> bool:
        """Whether the key has the admin scope."""
        return ADMIN in self.scopes

    @property
    def owner(self) -> uuid.UUID | None:
        """The owner to filter queries by; None for the rows of all users."""
        return None if self.is_admin else self.user_id

    def may(self, scope: str) -> bool:
        """Return whether the key has a scope."""
        return self.is_admin or scope in self.scopes


class Access:
    """Middleware that authenticates and authorizes every caller before the responder runs."""

    def __init__(
        self, store: Store, hasher: keys.Hasher, *, limiter: RateLimiter | None = None
    ) -> None:
        self._store = store
        self._hasher = hasher
        self._wrong_keys = WrongKeys(store, hasher)
        self._limiter = limiter

    def process_resource(
        self, req: falcon.Request, resp: falcon.Response, resource: object, _params: object
    ) -> None:
        """Set the principal of the request.

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
            raise MissingScope(f"a key with the scope {operation.scope} is required")

    def _caller(self, req: falcon.Request) -> Principal:
        kind, _, shown = (req.get_header("Authorization") or "").partition(" ")
        if not shown or kind.lower() != "bearer":
            raise Unauthenticated("send an API key: Authorization: Bearer clamor_...")
        key = keys.parse(shown.strip())
        if key is None:
            raise Unauthenticated("malformed API key: it must be clamor_<id>_<secret>")
        if not self._wrong_keys.may_be_right(key):
            raise Unauthenticated("this API key is not known, was revoked or has expired")
        try:
            row = self._accepted(key)
        except Unauthenticated:
            self._wrong_keys.refused(key)
            raise
        self._wrong_keys.accepted(key, row.secret_hash)
        return Principal(
            row.user_id,
            key.id,
            frozenset(row.scopes),
            requests_per_s=row.requests_per_s,
            max_audio_s_per_month=row.max_audio_s_per_month,
        )

    def _accepted(self, key: keys.Shown) -> Credential:
        """Return the credential of a key; raises :class:`Unauthenticated`."""
        row = account_queries.credential(self._store, key.id)
        # A missing key and a wrong secret get the same answer, so that existing IDs cannot be
        # probed.
        if row is None or not self._hasher.fits(key, row.secret_hash):
            raise Unauthenticated("this API key is not known")
        if row.is_revoked or row.is_expired or row.is_disabled:
            what = "was revoked" if row.is_revoked else "has expired"
            raise Unauthenticated(
                f"this API key {what if not row.is_disabled else 'belongs to a disabled user'}"
            )
        if not self._hasher.is_current(key, row.secret_hash):
            with self._store.transaction() as tx:
                account_queries.rehash(tx, key.id, self._hasher.of(key))
        return row


def principal(req: falcon.Request) -> Principal:
    """Return the caller of a request whose operation requires a scope."""
    known: Principal = req.context.principal
    return known


def owner(req: falcon.Request) -> uuid.UUID | None:
    """Return the owner whose rows the caller may see; None for all users."""
    return principal(req).owner
