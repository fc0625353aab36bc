"""Every question about users and their keys."""

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
    """What a key is compared with, and what it allows; None if there is none of this id."""
    return store.ask(_CREDENTIAL, key_id=key_id)


def is_active() -> ColumnElement[bool]:
    """Whether a key can be used: it was not revoked, and has not expired."""
    return ApiKey.revoked_at.is_(None) & or_(
        ApiKey.expires_at.is_(None), ApiKey.expires_at > func.now()
    )


def add_user(db: Session, **values: Any) -> User:
    """Write down a user; one whose address is taken is refused by the table."""
    return db.execute(insert(User).values(**values).returning(User)).scalar_one()


def get_user(db: Session, user_id: uuid.UUID) -> User | None:
    """One user."""
    return db.get(User, user_id)


def find_user(db: Session, email: str) -> User | None:
    """The user of an address."""
    return db.scalars(select(User).where(User.email == email)).one_or_none()


def lock_user(db: Session, user_id: uuid.UUID) -> User | None:
    """One user, whose keys nobody else adds to until the end of the transaction."""
    return db.scalars(select(User).where(User.id == user_id).with_for_update()).one_or_none()


def users(db: Session, *, limit: int) -> Sequence[User]:
    """The users, newest first."""
    return db.scalars(select(User).order_by(User.created_at.desc(), User.id).limit(limit)).all()


def change_user(db: Session, user_id: uuid.UUID, values: Mapping[str, Any]) -> User | None:
    """Change some columns of a user; None if there is none."""
    user = get_user(db, user_id)
    if user is not None:
        for name, value in values.items():
            setattr(user, name, value)
        db.flush()
    return user


def disable_user(db: Session, user_id: uuid.UUID, *, disabled: bool) -> User | None:
    """Let none of a user's keys be taken any more, or let them again; None if there is none."""
    disabled_at = func.coalesce(User.disabled_at, func.now()) if disabled else None
    return db.execute(
        update(User).where(User.id == user_id).values(disabled_at=disabled_at).returning(User)
    ).scalar_one_or_none()


def add_key(db: Session, **values: Any) -> ApiKey:
    """Write down a key."""
    return db.execute(insert(ApiKey).values(**values).returning(ApiKey)).scalar_one()


def get_key(db: Session, key_id: str) -> ApiKey | None:
    """One key."""
    return db.get(ApiKey, key_id)


def keys_of(db: Session, user_id: uuid.UUID) -> Sequence[ApiKey]:
    """A user's keys, newest first."""
    return db.scalars(
        select(ApiKey)
        .where(ApiKey.user_id == user_id)
        .order_by(ApiKey.created_at.desc(), ApiKey.id)
    ).all()


def count_active(db: Session, user_id: uuid.UUID, name: str) -> int:
    """How many keys of a name a user can use."""
    return db.execute(
        select(func.count())
        .select_from(ApiKey)
        .where(ApiKey.user_id == user_id, ApiKey.name == name, is_active())
    ).scalar_one()


def expire_key(db: Session, key_id: str, at: datetime) -> None:
    """Let a key be taken no longer than until then."""
    db.execute(
        update(ApiKey)
        .where(ApiKey.id == key_id)
        .values(expires_at=func.least(func.coalesce(ApiKey.expires_at, at), at))
    )


def change_key(db: Session, key_id: str, values: Mapping[str, Any]) -> ApiKey:
    """Change some columns of a key that is there."""
    key = db.get_one(ApiKey, key_id)
    for name, value in values.items():
        setattr(key, name, value)
    db.flush()
    return key


def revoke_key(db: Session, key_id: str) -> ApiKey | None:
    """Let a key be taken no more; revoking it again changes nothing. None if there is none."""
    return db.execute(
        update(ApiKey)
        .where(ApiKey.id == key_id)
        .values(revoked_at=func.coalesce(ApiKey.revoked_at, func.now()))
        .returning(ApiKey)
    ).scalar_one_or_none()
