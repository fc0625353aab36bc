"""Encrypt secrets that a table has to store, with keys that the database does not have."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from db.setting_parsers import SHORTEST_KEY
from db.settings import WEBHOOK_KEYS_VARIABLE, SettingsError


class SecretUnreadable(Exception):
    """A secret was encrypted with a key that the settings no longer have."""


class SecretBox:
    """Encrypts with the first key of the settings, and decrypts with any of them.

    So a key is replaced without downtime: the new one is put before the old one.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        if not keys or any(len(key) < SHORTEST_KEY for key in keys):
            raise SettingsError(
                f"set {WEBHOOK_KEYS_VARIABLE} to at least {SHORTEST_KEY} characters; see"
                " docs/webhooks.md#keys"
            )
        boxes = [Fernet(_fernet_key(key)) for key in keys]
        self._current, self._all = boxes[0], MultiFernet(boxes)

    def seal(self, secret: str) -> str:
        """Encrypt a secret."""
        return self._current.encrypt(secret.encode()).decode()

    def open(self, sealed: str) -> str:
        """Decrypt a secret.

        Raises
        ------
        SecretUnreadable
        """
        try:
            return self._all.decrypt(sealed.encode()).decode()
        except InvalidToken:
            raise SecretUnreadable(
                "a stored secret cannot be decrypted: restore the key that CLAMOR_SECRET_KEYS lacks"
            ) from None

    def is_current(self, sealed: str) -> bool:
        """Return whether a secret was encrypted with the first key."""
        try:
            self._current.decrypt(sealed.encode())
        except InvalidToken:
            return False
        return True


def _fernet_key(key: str) -> bytes:
    # The keys are random, so a fast hash suffices to bring them to the right length.
    return base64.urlsafe_b64encode(hashlib.sha256(b"clamor secrets\0" + key.encode()).digest())
