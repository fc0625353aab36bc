"""Problems of users and keys."""

from __future__ import annotations

from services.http.errors import ServiceError


class TooManyKeys(ServiceError):
    """A user can have at most two active keys with the same name: the one in use and its
    replacement.
    """

    status, name, title = 409, "too-many-keys", "Too many active keys with this name"
    advice = "Revoke one of the keys, or choose another name."


class UserExists(ServiceError):
    """A user, possibly a disabled one, already has this e-mail address."""

    status, name, title = 409, "user-exists", "E-mail address already in use"
    advice = "Use the existing user, or another address."


class OwnUser(ServiceError):
    """A key cannot erase its own user: the answer, and its further requests, would be refused."""

    status, name, title = 409, "own-user", "The user of this key"
    advice = "Use a key of another administrator, or ``clamor user erase`` on the server."
