"""Queries for users and their API keys."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple, NotRequired, TypedDict, Unpack

from msgspec import UNSET, UnsetType
from sqlalchemy import bindparam, false, func, insert, or_, select, update
from sqlalchemy.orm import Session
from sqlalchemy.sql.elements import ColumnElement

from db.store import CompiledQuery, Store
from db.tables.accounts import ApiKey, User


class Credential(NamedTuple):
    """A key's owner, hash and permissions, and whether it may be used."""

    user_id: uuid.UUID
    secret_hash: bytes
    scopes: list[str]
    requests_per_s: float | None
    max_audio_s_per_month: float | None
    is_revoked: bool
    is_expired: bool
    is_disabled: bool


_CREDENTIAL = CompiledQuery(
    select(
        ApiKey.user_id,
        ApiKey.secret_hash,
        ApiKey.scopes,
        ApiKey.requests_per_s,
        User.max_audio_s_per_month,
        func.coalesce(ApiKey.revoked_at <= func.now(), false()).label("is_revoked"),
        func.coalesce(ApiKey.expires_at <= func.now(), false()).label("is_expired"),
        User.disabled_at.is_not(None).label("is_disabled"),
    )
    .join(User, User.id == ApiKey.user_id)
    .where(ApiKey.id == bindparam("key_id")),
    Credential,
)


def credential(store: Store, key_id: str) -> Credential | None:
    """Return the hash and the permissions of a key; None if there is no key with this ID."""
    return store.ask(_CREDENTIAL, key_id=key_id)


def active_hashes(store: Store, *, limit: int) -> dict[str, bytes]:
    """Return the hashes of keys that are accepted by their ID, of the newest ``limit`` keys."""
    with store.reading() as tx:
        rows = tx.execute(
            select(ApiKey.id, ApiKey.secret_hash)
            .join(User, User.id == ApiKey.user_id)
            .where(is_active(), User.disabled_at.is_(None))
            .order_by(ApiKey.created_at.desc())
            .limit(limit)
        )
        return {row.id: row.secret_hash for row in rows}


def rehash(tx: Session, key_id: str, secret_hash: bytes) -> None:
    """Store the hash of a key by a new pepper."""
    tx.execute(update(ApiKey).where(ApiKey.id == key_id).values(secret_hash=secret_hash))


def is_active() -> ColumnElement[bool]:
    """Return the condition of active keys: not revoked and not expired."""
    return ApiKey.revoked_at.is_(None) & or_(
        ApiKey.expires_at.is_(None), ApiKey.expires_at > func.now()
    )


class NewUserRow(TypedDict):
    """The columns of a new user."""

    id: uuid.UUID
    email: str
    name: str
    max_audio_s_per_month: NotRequired[float | None]


def add_user(tx: Session, **values: Unpack[NewUserRow]) -> User:
    """Add a user. The table rejects an email address that is taken."""
    return tx.execute(insert(User).values(**values).returning(User)).scalar_one()


def get_user(tx: Session, user_id: uuid.UUID) -> User | None:
    """Return a user, or None."""
    return tx.get(User, user_id)


def find_user(tx: Session, email: str) -> User | None:
    """Return the user with an email address, or None."""
    return tx.scalars(select(User).where(User.email == email)).one_or_none()


def lock_user(tx: Session, user_id: uuid.UUID) -> User | None:
    """Return a user, locked so that no other transaction adds keys until the end of this one."""
    return tx.scalars(select(User).where(User.id == user_id).with_for_update()).one_or_none()


def users(tx: Session, *, limit: int) -> Sequence[User]:
    """Return the users, newest first."""
    return tx.scalars(select(User).order_by(User.created_at.desc(), User.id).limit(limit)).all()


def change_user(
    tx: Session, user_id: uuid.UUID, *, max_audio_s_per_month: float | UnsetType | None = UNSET
) -> User | None:
    """Change a user's quota, if one is given; return None if there is no such user."""
    user = get_user(tx, user_id)
    if user is not None and max_audio_s_per_month is not UNSET:
        user.max_audio_s_per_month = max_audio_s_per_month
        tx.flush()
    return user


def disable_user(tx: Session, user_id: uuid.UUID, *, disabled: bool) -> User | None:
    """Disable or re-enable a user, and so all of their keys; None if there is no such user."""
    disabled_at = func.coalesce(User.disabled_at, func.now()) if disabled else None
    return tx.execute(
        update(User).where(User.id == user_id).values(disabled_at=disabled_at).returning(User)
    ).scalar_one_or_none()


class NewKeyRow(TypedDict):
    """The columns of a new key."""

    id: str
    user_id: uuid.UUID
    name: str
    secret_hash: bytes
    scopes: Sequence[str]
    expires_at: NotRequired[datetime | None]
    revoked_at: NotRequired[datetime | None]
    requests_per_s: NotRequired[float | None]


def add_key(tx: Session, **values: Unpack[NewKeyRow]) -> ApiKey:
    """Add a key."""
    return tx.execute(insert(ApiKey).values(**values).returning(ApiKey)).scalar_one()


def get_key(tx: Session, key_id: str) -> ApiKey | None:
    """Return a key, or None."""
    return tx.get(ApiKey, key_id)


def keys_of(tx: Session, user_id: uuid.UUID) -> Sequence[ApiKey]:
    """Return a user's keys, newest first."""
    return tx.scalars(
        select(ApiKey)
        .where(ApiKey.user_id == user_id)
        .order_by(ApiKey.created_at.desc(), ApiKey.id)
    ).all()


def count_active(tx: Session, user_id: uuid.UUID, name: str) -> int:
    """Count a user's active keys of a name."""
    return tx.execute(
        select(func.count())
        .select_from(ApiKey)
        .where(ApiKey.user_id == user_id, ApiKey.name == name, is_active())
    ).scalar_one()


def expire_key(tx: Session, key_id: str, at: datetime) -> None:
    """Let a key expire at a time, unless it expires earlier."""
    tx.execute(
        update(ApiKey)
        .where(ApiKey.id == key_id)
        .values(expires_at=func.least(func.coalesce(ApiKey.expires_at, at), at))
    )


def change_key(
    tx: Session, key_id: str, *, requests_per_s: float | UnsetType | None = UNSET
) -> ApiKey:
    """Change the rate limit of an existing key, if one is given."""
    key = tx.get_one(ApiKey, key_id)
    if requests_per_s is not UNSET:
        key.requests_per_s = requests_per_s
        tx.flush()
    return key


def revoke_key(tx: Session, key_id: str) -> ApiKey | None:
    """Revoke a key; repeating this changes nothing. Return None if there is no such key."""
    return tx.execute(
        update(ApiKey)
        .where(ApiKey.id == key_id)
        .values(revoked_at=func.coalesce(ApiKey.revoked_at, func.now()))
        .returning(ApiKey)
    ).scalar_one_or_none()
