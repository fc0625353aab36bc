"""Requests and answers about users and keys."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Annotated, Literal

import msgspec

from db import typed
from db.tables.accounts import ApiKey
from db.tables.accounts import User as UserRow

Scope = Literal["sessions:write", "sessions:read", "models:write", "reports:read", "admin"]

#: Longest lifetime of a key that expires: ten years.
MOST_DAYS = 3_650

#: Upper bound on the scopes of a request, duplicates included.
MOST_SCOPES = 20

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
#: Any ``local@domain``: whether mail is delivered there does not matter. Blanks and
#: control characters are listed one by one because regex engines disagree on ``\s``.
Email = Annotated[
    str,
    msgspec.Meta(pattern=r"^[^@\x00-\x20\x7f-\xa0]+@[^@\x00-\x20\x7f-\xa0]+$", max_length=254),
]


#: Requests per second.
Rate = Annotated[float, msgspec.Meta(gt=0, le=1e6)]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e12)]


class NewUser(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A new user."""

    email: Email
    name: Name
    #: Quota in seconds of audio per month; null for the default of the installation.
    max_audio_s_per_month: Seconds | None = None


class UserChange(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A change of a user. Fields that are left out keep their values."""

    #: Quota in seconds of audio per month; null for the default of the installation.
    max_audio_s_per_month: Seconds | msgspec.UnsetType | None = msgspec.UNSET


class UserAccount(msgspec.Struct, kw_only=True):
    """A user, who owns recordings and keys."""

    id: uuid.UUID
    email: str
    name: str
    created_at: datetime
    #: When the user was disabled; null while enabled.
    disabled_at: datetime | None
    #: Quota in seconds of audio per month; null for the default of the installation.
    max_audio_s_per_month: float | None

    @classmethod
    def of(cls, row: UserRow) -> UserAccount:
        """Convert a row to a user."""
        return typed.convert(row, cls, from_attributes=True)


class UserPage(msgspec.Struct, kw_only=True):
    """The users, newest first."""

    items: list[UserAccount]


class NewKey(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A new key."""

    #: The purpose of the key. A user may have at most two active keys with the same name.
    name: Name
    scopes: Annotated[list[Scope], msgspec.Meta(min_length=1, max_length=MOST_SCOPES)]
    #: Days until the key expires; null for a key that does not expire.
    expires_in_days: Annotated[int, msgspec.Meta(ge=1, le=MOST_DAYS)] | None = None
    #: Rate limit in requests per second; null for the default of the installation.
    requests_per_s: Rate | None = None


class KeyChange(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A change of a key. Fields that are left out keep their values."""

    #: Rate limit in requests per second; null for the default of the installation.
    requests_per_s: Rate | msgspec.UnsetType | None = msgspec.UNSET


class Rotation(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A request to rotate a key."""

    #: Hours for which the old key stays valid.
    overlap_hours: Annotated[int, msgspec.Meta(ge=0, le=24 * 90)] = 24


class Key(msgspec.Struct, kw_only=True):
    """An API key, without its secret."""

    id: str
    user_id: uuid.UUID
    name: str
    scopes: list[str]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    #: Rate limit in requests per second; null for the default of the installation.
    requests_per_s: float | None

    @classmethod
    def of(cls, row: ApiKey) -> Key:
        """Convert a row to a key."""
        return typed.convert(row, cls, from_attributes=True)


class KeyPage(msgspec.Struct, kw_only=True):
    """A user's keys, newest first."""

    items: list[Key]


class MadeKey(msgspec.Struct, kw_only=True):
    """A new key. ``secret`` is the API key to send with requests; it is shown only once."""

    key: Key
    secret: str
