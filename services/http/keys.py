"""Create and verify API keys.

A key has the form ``clamor_<id>_<secret>``. The ID finds the row; the row stores an HMAC-SHA256 of
the secret with the *pepper*, which only the API processes have: read access to the database alone
does not suffice to forge a key. A secret is 256 random bits, so a slow hash, as for passwords,
would add nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import uuid
from dataclasses import dataclass

from db.setting_parsers import SHORTEST_KEY
from db.settings import SettingsError

_FORM = re.compile(r"clamor_(?P<id>[0-9a-f]{16})_(?P<secret>[A-Za-z0-9_-]{43})")


@dataclass(frozen=True)
class Shown:
    """The two parts of a key as sent by a caller."""

    id: str
    secret: str

    def __repr__(self) -> str:
        """Omit the secret, as this text may be logged."""
        return f"Shown(id={self.id!r})"

    def __str__(self) -> str:
        """Return the whole key, which is shown once."""
        return f"clamor_{self.id}_{self.secret}"


def new(key_id: str | None = None) -> Shown:
    """Return a new random key, with a new ID or the given one."""
    return Shown(id=key_id or secrets.token_hex(8), secret=secrets.token_urlsafe(32))


def id_of(made_id: uuid.UUID) -> str:
    """Derive the ID of a new key from the ID that the request assigned to it.

    Only its second half is random: the first half is the time.
    """
    return made_id.hex[16:]


def parse(text: str) -> Shown | None:
    """Parse a key; return None if it does not have the form of one."""
    found = _FORM.fullmatch(text)
    return None if found is None else Shown(**found.groupdict())


class Hasher:
    """Hashes secrets with this installation's pepper, the first of several while it is replaced."""

    def __init__(self, pepper: str) -> None:
        peppers = [each.strip() for each in pepper.split(",")]
        if any(len(each) < SHORTEST_KEY for each in peppers):
            raise SettingsError(
                f"set CLAMOR_KEY_PEPPER to at least {SHORTEST_KEY} characters; see docs/accounts.md"
            )
        self._pepper, *self._old_peppers = [each.encode() for each in peppers]

    def of(self, key: Shown) -> bytes:
        """Return the hash of a key that its row stores."""
        return _hash(key, self._pepper)

    def fits(self, key: Shown, stored: bytes) -> bool:
        """Return whether a stored hash matches a key, in constant time."""
        return self.is_current(key, stored) or any(
            hmac.compare_digest(_hash(key, pepper), stored) for pepper in self._old_peppers
        )

    def is_current(self, key: Shown, stored: bytes) -> bool:
        """Return whether a stored hash matches a key by the first pepper, in constant time."""
        return hmac.compare_digest(self.of(key), stored)


def _hash(key: Shown, pepper: bytes) -> bytes:
    return hmac.digest(pepper, f"{key.id}.{key.secret}".encode(), hashlib.sha256)
