"""Accounts for the tests: a team whose key has every right but administration, and others."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

import falcon
import falcon.testing
from sqlalchemy.orm import Session

from db.queries import account_queries
from db.store import Store
from db.tables.accounts import SCOPES
from services.http import keys

PEPPER = "pepper of the tests that opens nothing"
SECRET_KEYS = ("key of the tests that hides nothing",)
#: The team's user, and an administrator; every test database has both.
TEAM = uuid.UUID("11111111-1111-4111-8111-111111111111")
ADMIN = uuid.UUID("22222222-2222-4222-8222-222222222222")
TEAM_SCOPES = tuple(scope for scope in SCOPES if scope != "admin")

_TEAM_KEY = keys.Shown(id="1" * 16, secret="t" * 43)
_ADMIN_KEY = keys.Shown(id="2" * 16, secret="a" * 43)
KEY, ADMIN_KEY = str(_TEAM_KEY), str(_ADMIN_KEY)


def add_first(database_url: str) -> None:
    """Add the team and the administrator, with their keys."""
    store = Store(database_url, pool_size=1)
    with store.transaction() as tx:
        add_user(tx, TEAM, "team@example.org")
        add_user(tx, ADMIN, "admin@example.org")
        add_key(tx, TEAM, TEAM_SCOPES, key=_TEAM_KEY)
        add_key(tx, ADMIN, ("admin",), key=_ADMIN_KEY)
    store.close()


def add_user(tx: Session, user_id: uuid.UUID, email: str) -> uuid.UUID:
    """Add a user."""
    return account_queries.add_user(tx, id=user_id, email=email, name=email.partition("@")[0]).id


def add_key(
    tx: Session,
    user_id: uuid.UUID,
    scopes: Sequence[str] = TEAM_SCOPES,
    *,
    key: keys.Shown | None = None,
    **values: Any,
) -> str:
    """Add a key; return it as its holder presents it."""
    made = key or keys.new()
    values = {"name": "a key", "secret_hash": keys.Hasher(PEPPER).of(made)} | values
    account_queries.add_key(tx, id=made.id, user_id=user_id, scopes=list(scopes), **values)
    return str(made)


def secret_of(shown: str) -> str:
    """Return the secret part of a key, which may contain underscores."""
    key = keys.parse(shown)
    assert key is not None
    return key.secret


def bearer(key: str = KEY) -> dict[str, str]:
    """Return the authorization header for a key."""
    return {"Authorization": f"Bearer {key}"}


def client(
    app: falcon.App[falcon.Request, falcon.Response], key: str = KEY
) -> falcon.testing.TestClient:
    """Return a client of an application that sends a key with every request."""
    return falcon.testing.TestClient(app, headers=bearer(key))
