"""``clamor user`` and ``clamor key``, for operators with access to the database and the pepper."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta

from rich.console import Console
from rich.table import Table

from db.ids import new_id
from db.queries import account_queries, session_queries
from db.settings import Settings
from db.store import Store
from services.api.accounts import resources as accounts
from services.api.accounts import schemas
from services.cli.actions import targets
from services.http import keys
from services.http.errors import ServiceError, UserError


@contextmanager
def _store(settings: Settings) -> Iterator[Store]:
    try:
        with targets.store(settings) as store:
            yield store
    except ServiceError as error:
        raise UserError(str(error)) from error


def create_user(
    settings: Settings, email: str, *, name: str | None, max_audio_s_per_month: float | None
) -> int:
    """Create a user, and print the ID."""
    with _store(settings) as store, store.transaction() as tx:
        user = accounts.make_user(
            tx,
            new_id(),
            email=email,
            name=name or email,
            max_audio_s_per_month=max_audio_s_per_month,
        )
    print(user.id)
    return 0


def show_users(settings: Settings) -> int:
    """List the users."""
    with _store(settings) as store, store.reading() as tx:
        rows = account_queries.users(tx, limit=accounts.LISTED)
    _table(
        ("id", "email", "name", "created", "disabled"),
        [(row.id, row.email, row.name, row.created_at, row.disabled_at) for row in rows],
    )
    return 0


def switch_user(settings: Settings, user: str, *, disabled: bool) -> int:
    """Disable or re-enable a user."""
    with _store(settings) as store, store.transaction() as tx:
        account_queries.disable_user(tx, find_user_id(store, user), disabled=disabled)
    return 0


def create_key(
    settings: Settings,
    user: str,
    *,
    name: str,
    scopes: Sequence[str],
    days: int | None,
    requests_per_s: float | None,
) -> int:
    """Create a key, and print it on standard output, this one time."""
    hasher = keys.Hasher(settings.key_pepper)
    with _store(settings) as store:
        user_id = find_user_id(store, user)
        with store.transaction() as tx:
            expires_at = None if days is None else session_queries.clock(tx) + timedelta(days=days)
            made = accounts.make_key(
                tx,
                user_id,
                hasher,
                name=name,
                scopes=scopes,
                expires_at=expires_at,
                requests_per_s=requests_per_s,
            )
    return _show_once(made)


def rotate_key(settings: Settings, key_id: str, *, overlap_hours: int) -> int:
    """Create a key that replaces another, and print it, this one time."""
    hasher = keys.Hasher(settings.key_pepper)
    with _store(settings) as store, store.transaction() as tx:
        made = accounts.rotate_key(tx, key_id, hasher, overlap_hours=overlap_hours)
    print(f"{key_id} stays valid for {overlap_hours} hours", file=sys.stderr)
    return _show_once(made)


def revoke_key(settings: Settings, key_id: str) -> int:
    """Revoke a key."""
    with _store(settings) as store, store.transaction() as tx:
        accounts.get_key_or_404(tx, key_id)
        account_queries.revoke_key(tx, key_id)
    return 0


def show_keys(settings: Settings, user: str) -> int:
    """List a user's keys, without their secrets."""
    with _store(settings) as store:
        user_id = find_user_id(store, user)
        with store.reading() as tx:
            rows = account_queries.keys_of(tx, user_id)
    _table(
        ("id", "name", "scopes", "created", "expires", "revoked"),
        [
            (
                each.id,
                each.name,
                " ".join(each.scopes),
                each.created_at,
                each.expires_at,
                each.revoked_at,
            )
            for each in rows
        ],
    )
    return 0


def find_user_id(store: Store, user: str) -> uuid.UUID:
    """Return the ID of the user with an email address or an ID."""
    with store.reading() as tx:
        if "@" in user:
            row = account_queries.find_user(tx, user)
        else:
            try:
                row = account_queries.get_user(tx, uuid.UUID(user))
            except ValueError:
                raise UserError(f"{user!r} is neither an email address nor an ID") from None
    if row is None:
        raise UserError(f"no such user: {user}")
    return row.id


def _show_once(made: schemas.MadeKey) -> int:
    print(f"Key {made.key.id}; save it now, it is not shown again:", file=sys.stderr)
    print(made.secret)
    return 0


def _table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    table = Table(*headings)
    for column in table.columns[:2]:
        # IDs and names must stay whole, to be copied.
        column.no_wrap = True
    for row in rows:
        table.add_row(*(_told(value) for value in row))
    Console().print(table)


def _told(value: object) -> str:
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M}"
    return "" if value is None else str(value)
