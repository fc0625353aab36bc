"""``/v1/users`` and ``/v1/keys``: users and their API keys. For administrators.

The functions at the top are shared with the commands (`services.cli.actions.accounts`). They take a
database session, as the queries do, and never commit.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import ClassVar

import falcon
import msgspec
import structlog
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from db.queries import account_queries, session_queries
from db.store import Store
from db.tables.accounts import ApiKey
from services.api.accounts import erasure, schemas
from services.api.accounts.errors import OwnUser, TooManyKeys, UserExists
from services.api.common.errors import UnderLegalHold
from services.http import idempotency, keys
from services.http.access import ADMIN, principal
from services.http.caller_errors import SecretNotShown
from services.http.not_found import NotFound, or_404
from services.http.operations import body_of, operation
from services.http.resource import Resource
from services.http.responses import answer

log = structlog.get_logger(__name__)

#: Upper bound on the users in the list.
LISTED = 1_000
#: Active keys with one name: the one in use and its replacement.
MOST_ACTIVE = 2


def make_user(
    tx: Session,
    user_id: uuid.UUID,
    *,
    email: str,
    name: str,
    max_audio_s_per_month: float | None = None,
) -> schemas.UserAccount:
    """Create a user; raises :class:`UserExists`."""
    try:
        with tx.begin_nested():
            row = account_queries.add_user(
                tx,
                id=user_id,
                email=email,
                name=name,
                max_audio_s_per_month=max_audio_s_per_month,
            )
    except IntegrityError:
        raise UserExists(f"a user with the address {email} already exists") from None
    return schemas.UserAccount.of(row)


def make_key(
    tx: Session,
    user_id: uuid.UUID,
    hasher: keys.Hasher,
    *,
    name: str,
    scopes: Sequence[str],
    expires_at: datetime | None = None,
    requests_per_s: float | None = None,
    key_id: str | None = None,
) -> schemas.MadeKey:
    """Create a key for a user; raises :class:`NotFound` or :class:`TooManyKeys`."""
    # Lock the user, so that concurrent requests cannot exceed the limit.
    or_404(account_queries.lock_user(tx, user_id), "user", user_id)
    if account_queries.count_active(tx, user_id, name) >= MOST_ACTIVE:
        raise TooManyKeys(
            f"there are already {MOST_ACTIVE} active keys named {name!r}; revoke one first"
        )
    shown = keys.new(key_id)
    row = account_queries.add_key(
        tx,
        id=shown.id,
        user_id=user_id,
        name=name,
        secret_hash=hasher.of(shown),
        scopes=sorted(set(scopes)),
        expires_at=expires_at,
        requests_per_s=requests_per_s,
    )
    return schemas.MadeKey(key=schemas.Key.of(row), secret=str(shown))


def rotate_key(
    tx: Session,
    key_id: str,
    hasher: keys.Hasher,
    *,
    overlap_hours: int,
    new_id: str | None = None,
) -> schemas.MadeKey:
    """Create a key with the settings of an old one, which stays valid for ``overlap_hours``.

    Raises
    ------
    NotFound, TooManyKeys
    """
    old = get_key_or_404(tx, key_id)
    # The new key gets the full lifetime of the old one, counted from now.
    life = None if old.expires_at is None else old.expires_at - old.created_at
    now = session_queries.clock(tx)
    made = make_key(
        tx,
        old.user_id,
        hasher,
        name=old.name,
        scopes=old.scopes,
        expires_at=None if life is None else now + life,
        requests_per_s=old.requests_per_s,
        key_id=new_id,
    )
    account_queries.expire_key(tx, key_id, now + timedelta(hours=overlap_hours))
    return made


def refuse_to_replay(store: Store, resp: falcon.Response, made_id: uuid.UUID) -> None:
    """Refuse to show the secret of a key that an earlier attempt of a request created.

    Raises
    ------
    NotFound
        If no earlier attempt created one.
    SecretNotShown
    """
    key_id = keys.id_of(made_id)
    with store.reading() as tx:
        get_key_or_404(tx, key_id)
    resp.location = f"/v1/keys/{key_id}"
    raise SecretNotShown(f"an earlier attempt at this request created the key {key_id}")


def get_key_or_404(tx: Session, key_id: str) -> ApiKey:
    """Return the row of a key; raises :class:`NotFound`."""
    return or_404(account_queries.get_key(tx, key_id), "key", key_id)


class UserList(Resource):
    """``/v1/users``."""

    @operation(scope=ADMIN, answer=schemas.UserPage)
    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        """List users, newest first."""
        with self.deps.store.reading() as tx:
            rows = account_queries.users(tx, limit=LISTED)
        answer(resp, schemas.UserPage(items=[schemas.UserAccount.of(row) for row in rows]))

    @operation(
        scope=ADMIN,
        body=schemas.NewUser,
        answer=schemas.UserAccount,
        status=201,
        problems=(UserExists,),
    )
    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Create a user, without a key."""
        asked = body_of(req, schemas.NewUser)
        with self.deps.store.transaction() as tx:
            user = make_user(
                tx,
                idempotency.new_id(req),
                email=asked.email,
                name=asked.name,
                max_audio_s_per_month=asked.max_audio_s_per_month,
            )
        answer(resp, user, status=201, location=f"/v1/users/{user.id}")

    def replay(self, _req: falcon.Request, resp: falcon.Response, made_id: uuid.UUID) -> None:
        """Answer with the user that an earlier attempt of this request created."""
        with self.deps.store.reading() as tx:
            row = or_404(account_queries.get_user(tx, made_id), "user", made_id)
        answer(resp, schemas.UserAccount.of(row), status=201, location=f"/v1/users/{made_id}")


class UserItem(Resource):
    """``/v1/users/{user_id}``."""

    @operation(scope=ADMIN, answer=schemas.UserAccount, problems=(NotFound.of("user"),))
    def on_get(self, _req: falcon.Request, resp: falcon.Response, user_id: uuid.UUID) -> None:
        """Return a user."""
        with self.deps.store.reading() as tx:
            row = or_404(account_queries.get_user(tx, user_id), "user", user_id)
        answer(resp, schemas.UserAccount.of(row))

    @operation(
        scope=ADMIN,
        body=schemas.UserChange,
        answer=schemas.UserAccount,
        problems=(NotFound.of("user"),),
    )
    def on_patch(self, req: falcon.Request, resp: falcon.Response, user_id: uuid.UUID) -> None:
        """Change a user's monthly quota of audio."""
        asked = body_of(req, schemas.UserChange)
        with self.deps.store.transaction() as tx:
            row = account_queries.change_user(
                tx, user_id, max_audio_s_per_month=asked.max_audio_s_per_month
            )
        answer(resp, schemas.UserAccount.of(or_404(row, "user", user_id)))

    @operation(
        scope=ADMIN,
        answer=erasure.Erasure,
        problems=(NotFound.of("user"), OwnUser, UnderLegalHold),
    )
    def on_delete(self, req: falcon.Request, resp: falcon.Response, user_id: uuid.UUID) -> None:
        """Erase a user: disable the user, then remove their sessions, and then all other rows and
        stored files of theirs. The answer is a receipt. A call takes a second or two; repeat it
        until ``done`` is true.
        """
        if principal(req).user_id == user_id:
            raise OwnUser(f"this key belongs to the user {user_id}")
        receipt = erasure.Eraser(self.deps.store, self.deps.blobs, user_id).run(
            lasts_s=erasure.LASTS_S
        )
        # The answer may be lost, and the user is not found again.
        log.info("user_erased", **msgspec.to_builtins(receipt))
        answer(resp, receipt)


class UserSwitch(Resource):
    """``/v1/users/{user_id}/disable`` and ``/enable``."""

    disables: ClassVar[bool]

    @operation(scope=ADMIN, answer=schemas.UserAccount, problems=(NotFound.of("user"),))
    def on_post(self, _req: falcon.Request, resp: falcon.Response, user_id: uuid.UUID) -> None:
        """Disable or re-enable a user. A disabled user's keys are rejected; their data is kept."""
        with self.deps.store.transaction() as tx:
            row = account_queries.disable_user(tx, user_id, disabled=self.disables)
        answer(resp, schemas.UserAccount.of(or_404(row, "user", user_id)))


class UserDisable(UserSwitch):
    """``POST /v1/users/{user_id}/disable``."""

    disables = True


class UserEnable(UserSwitch):
    """``POST /v1/users/{user_id}/enable``."""

    disables = False


class UserKeys(Resource):
    """``/v1/users/{user_id}/keys``."""

    @operation(scope=ADMIN, answer=schemas.KeyPage, problems=(NotFound.of("user"),))
    def on_get(self, _req: falcon.Request, resp: falcon.Response, user_id: uuid.UUID) -> None:
        """List a user's keys, newest first, without their secrets."""
        with self.deps.store.transaction() as tx:
            or_404(account_queries.get_user(tx, user_id), "user", user_id)
            rows = account_queries.keys_of(tx, user_id)
        answer(resp, schemas.KeyPage(items=[schemas.Key.of(row) for row in rows]))

    @operation(
        scope=ADMIN,
        body=schemas.NewKey,
        answer=schemas.MadeKey,
        status=201,
        problems=(NotFound.of("user"), TooManyKeys),
        secret=True,
    )
    def on_post(self, req: falcon.Request, resp: falcon.Response, user_id: uuid.UUID) -> None:
        """Create a key. Its secret is returned only in this answer."""
        asked = body_of(req, schemas.NewKey)
        with self.deps.store.transaction() as tx:
            days = asked.expires_in_days
            made = make_key(
                tx,
                user_id,
                self.deps.hasher,
                name=asked.name,
                scopes=asked.scopes,
                expires_at=(
                    None if days is None else session_queries.clock(tx) + timedelta(days=days)
                ),
                requests_per_s=asked.requests_per_s,
                key_id=keys.id_of(idempotency.new_id(req)),
            )
        answer(resp, made, status=201, location=f"/v1/keys/{made.key.id}")

    def replay(self, _req: falcon.Request, resp: falcon.Response, made_id: uuid.UUID) -> None:
        """Refuse to show the secret of a key that an earlier attempt of this request created."""
        refuse_to_replay(self.deps.store, resp, made_id)


class KeyItem(Resource):
    """``/v1/keys/{key_id}``."""

    @operation(scope=ADMIN, answer=schemas.Key, problems=(NotFound.of("key"),))
    def on_get(self, _req: falcon.Request, resp: falcon.Response, key_id: str) -> None:
        """Return a key, without its secret."""
        with self.deps.store.reading() as tx:
            row = get_key_or_404(tx, key_id)
        answer(resp, schemas.Key.of(row))

    @operation(
        scope=ADMIN,
        body=schemas.KeyChange,
        answer=schemas.Key,
        problems=(NotFound.of("key"),),
    )
    def on_patch(self, req: falcon.Request, resp: falcon.Response, key_id: str) -> None:
        """Change the rate limit of a key. It takes effect within about a second."""
        asked = body_of(req, schemas.KeyChange)
        with self.deps.store.transaction() as tx:
            get_key_or_404(tx, key_id)
            row = account_queries.change_key(tx, key_id, requests_per_s=asked.requests_per_s)
        answer(resp, schemas.Key.of(row))

    @operation(scope=ADMIN, answer=schemas.Key, problems=(NotFound.of("key"),))
    def on_delete(self, _req: falcon.Request, resp: falcon.Response, key_id: str) -> None:
        """Revoke a key, effective with the next request. Revoking it again changes nothing."""
        with self.deps.store.transaction() as tx:
            get_key_or_404(tx, key_id)
            row = account_queries.revoke_key(tx, key_id)
        assert row is not None
        answer(resp, schemas.Key.of(row))


class KeyRotate(Resource):
    """``/v1/keys/{key_id}/rotate``."""

    @operation(
        scope=ADMIN,
        body=schemas.Rotation,
        answer=schemas.MadeKey,
        status=201,
        problems=(NotFound.of("key"), TooManyKeys),
        secret=True,
    )
    def on_post(self, req: falcon.Request, resp: falcon.Response, key_id: str) -> None:
        """Rotate a key: create a new one with the same settings. The old key stays valid for
        ``overlap_hours``.
        """
        asked = body_of(req, schemas.Rotation)
        with self.deps.store.transaction() as tx:
            made = rotate_key(
                tx,
                key_id,
                self.deps.hasher,
                overlap_hours=asked.overlap_hours,
                new_id=keys.id_of(idempotency.new_id(req)),
            )
        answer(resp, made, status=201, location=f"/v1/keys/{made.key.id}")

    def replay(self, _req: falcon.Request, resp: falcon.Response, made_id: uuid.UUID) -> None:
        """Refuse to show the secret of a key that an earlier attempt of this request created."""
        refuse_to_replay(self.deps.store, resp, made_id)
