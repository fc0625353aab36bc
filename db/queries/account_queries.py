"""Queries for users and their API keys."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, false, func, insert, or_, select, update
from sqlalchemy.orm import Session
from sqlalchemy.sql.elements import ColumnElement

from db.store import CompiledQuery, Store
from db.tables.accounts import ApiKey, User

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
    .where(ApiKey.id == bindparam("key_id"))
)


def credential(store: Store, key_id: str) -> Any:
    """Return the hash and the permissions of a key; None if there is no key with this ID."""
    return store.ask(_CREDENTIAL, key_id=key_id)


def is_active() -> ColumnElement[bool]:
    """Return the condition of active keys: not revoked and not expired."""
    return ApiKey.revoked_at.is_(None) & or_(
        ApiKey.expires_at.is_(None), ApiKey.expires_at > func.now()
    )


def add_user(db: Session, **values: Any) -> User:
    """Add a user. The table rejects an email address that is taken."""
    return db.execute(insert(User).values(**values).returning(User)).scalar_one()


def get_user(db: Session, user_id: uuid.UUID) -> User | None:
    """Return a user, or None."""
    return db.get(User, user_id)


def find_user(db: Session, email: str) -> User | None:
    """Return the user with an email address, or None."""
    return db.scalars(select(User).where(User.email == email)).one_or_none()


def lock_user(db: Session, user_id: uuid.UUID) -> User | None:
    """Return a user, locked so that no other transaction adds keys until the end of this one."""
    return db.scalars(select(User).where(User.id == user_id).with_for_update()).one_or_none()


def users(db: Session, *, limit: int) -> Sequence[User]:
    """Return the users, newest first."""
    return db.scalars(select(User).order_by(User.created_at.desc(), User.id).limit(limit)).all()


def change_user(db: Session, user_id: uuid.UUID, values: Mapping[str, Any]) -> User | None:
    """Change columns of a user; return None if there is no such user."""
    user = get_user(db, user_id)
    if user is not None:
        for name, value in values.items():
            setattr(user, name, value)
        db.flush()
    return user


def disable_user(db: Session, user_id: uuid.UUID, *, disabled: bool) -> User | None:
    """Disable or re-enable a user, and so all of their keys; None if there is no such user."""
    disabled_at = func.coalesce(User.disabled_at, func.now()) if disabled else None
    return db.execute(
        update(User).where(User.id == user_id).values(disabled_at=disabled_at).returning(User)
    ).scalar_one_or_none()


def add_key(db: Session, **values: Any) -> ApiKey:
    """Add a key."""
    return db.execute(insert(ApiKey).values(**values).returning(ApiKey)).scalar_one()


def get_key(db: Session, key_id: str) -> ApiKey | None:
    """Return a key, or None."""
    return db.get(ApiKey, key_id)


def keys_of(db: Session, user_id: uuid.UUID) -> Sequence[ApiKey]:
    """Return a user's keys, newest first."""
    return db.scalars(
        select(ApiKey)
        .where(ApiKey.user_id == user_id)
        .order_by(ApiKey.created_at.desc(), ApiKey.id)
    ).all()


def count_active(db: Session, user_id: uuid.UUID, name: str) -> int:
    """Count a user's active keys of a name."""
    return db.execute(
        select(func.count())
        .select_from(ApiKey)
        .where(ApiKey.user_id == user_id, ApiKey.name == name, is_active())
    ).scalar_one()


def expire_key(db: Session, key_id: str, at: datetime) -> None:
    """Let a key expire at a time, unless it expires earlier."""
    db.execute(
        update(ApiKey)
        .where(ApiKey.id == key_id)
        .values(expires_at=func.least(func.coalesce(ApiKey.expires_at, at), at))
    )


def change_key(db: Session, key_id: str, values: Mapping[str, Any]) -> ApiKey:
    """Change columns of an existing key."""
    key = db.get_one(ApiKey, key_id)
    for name, value in values.items():
        setattr(key, name, value)
    db.flush()
    return key


def revoke_key(db: Session, key_id: str) -> ApiKey | None:
    """Revoke a key; repeating this changes nothing. Return None if there is no such key."""
    return db.execute(
        update(ApiKey)
        .where(ApiKey.id == key_id)
        .values(revoked_at=func.coalesce(ApiKey.revoked_at, func.now()))
        .returning(ApiKey)
    ).scalar_one_or_none()
