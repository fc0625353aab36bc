"""API keys: how they are made, and how one that is shown is told from one that is guessed.

A key reads ``clamor_<id>_<secret>``. By the id its row is found; of the secret the row has an
HMAC-SHA256 with the *pepper*, which the API processes have and the database has not: whoever
reads the database alone can make no key. A secret is 256 random bits, so that a slow hash, as for
passwords, would add nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import uuid
from dataclasses import dataclass

from db.settings import SettingsError

_FORM = re.compile(r"clamor_(?P<id>[0-9a-f]{16})_(?P<secret>[A-Za-z0-9_-]{43})")
#: A pepper that is shorter can be guessed by who has the database.
SHORTEST_PEPPER = 32


@dataclass(frozen=True)
class Shown:
    """The two parts of a key, as a caller shows it."""

    id: str
    secret: str

    def __repr__(self) -> str:
        """Never the secret: this ends in logs."""
        return f"Shown(id={self.id!r})"

    def __str__(self) -> str:
        """The key itself, to be shown once."""
        return f"clamor_{self.id}_{self.secret}"


def new(key_id: str | None = None) -> Shown:
    """A key that nobody has, of a new id or a given one."""
    return Shown(id=key_id or secrets.token_hex(8), secret=secrets.token_urlsafe(32))


def id_of(made_id: uuid.UUID) -> str:
    """The id of the key that a request makes, of the id that the request has for it."""
    return made_id.hex[:16]


def parse(text: str) -> Shown | None:
    """The parts of what a caller shows; None if no key looks like that."""
    found = _FORM.fullmatch(text)
    return None if found is None else Shown(**found.groupdict())


class Hasher:
    """Hashes secrets with this installation's pepper."""

    def __init__(self, pepper: str) -> None:
        if len(pepper) < SHORTEST_PEPPER:
            raise SettingsError(
                f"CLAMOR_KEY_PEPPER must be set, and have at least {SHORTEST_PEPPER} characters;"
                " see docs/accounts.md"
            )
        self._pepper = pepper.encode()

    def of(self, key: Shown) -> bytes:
        """What the row of a key has of its secret."""
        return hmac.digest(self._pepper, f"{key.id}.{key.secret}".encode(), hashlib.sha256)

    def fits(self, key: Shown, stored: bytes) -> bool:
        """Whether a row is of this very key; takes as long whatever it differs in."""
        return hmac.compare_digest(self.of(key), stored)
