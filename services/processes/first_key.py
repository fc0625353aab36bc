"""The first key of a standalone service, which no user exists yet to create."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from db.ids import new_id
from services.http import keys

if TYPE_CHECKING:
    from db.store import Store

EMAIL = "standalone@localhost"
NAME = "first key"
KEY_FILE = "api-key"
PEPPER_FILE = "key-pepper"
#: Has the key that encrypts the secrets of webhooks.
SECRETS_FILE = "secrets"


def pepper(home: Path) -> str:
    """Return the pepper of the service in a folder, created at its first start."""
    return _kept(home / PEPPER_FILE) or _keep(home / PEPPER_FILE, secrets.token_urlsafe(32))


def secret_key(home: Path) -> str:
    """Return the key of the secrets of the service in a folder, created at its first start."""
    file = home / SECRETS_FILE
    return _kept(file) or _keep(file, secrets.token_urlsafe(32))


def key_of(home: Path) -> str:
    """Return the first key of the service in a folder; empty if there is none."""
    return _kept(home / KEY_FILE)


def ensure(home: Path, store: Store, hasher: keys.Hasher) -> str:
    """Return the first key, with all scopes; create a new one if the stored key is not valid."""
    # Imported here: commands only read the key, and need no database library for that.
    from db.queries import account_queries
    from db.tables.accounts import SCOPES

    kept = keys.parse(key_of(home))
    row = account_queries.credential(store, kept.id) if kept else None
    if (
        kept is not None
        and row is not None
        and hasher.fits(kept, row.secret_hash)
        and not (row.is_revoked or row.is_expired or row.is_disabled)
    ):
        return str(kept)
    made = keys.new()
    with store.transaction() as tx:
        user = account_queries.find_user(tx, EMAIL) or account_queries.add_user(
            tx, id=new_id(), email=EMAIL, name="This machine"
        )
        account_queries.disable_user(tx, user.id, disabled=False)
        account_queries.add_key(
            tx,
            id=made.id,
            user_id=user.id,
            name=NAME,
            secret_hash=hasher.of(made),
            scopes=list(SCOPES),
        )
    # After the commit, so that a stored key is always valid.
    return _keep(home / KEY_FILE, str(made))


def _kept(file: Path) -> str:
    return file.read_text().strip() if file.is_file() else ""


def _keep(file: Path, secret: str) -> str:
    """Write a secret atomically, readable only by its owner."""
    new = file.with_suffix(".new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as written:
        written.write(secret + "\n")
    new.replace(file)
    return secret
