"""What goes in and out about users and keys."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Annotated, Literal

import msgspec

from db.tables.accounts import ApiKey
from db.tables.accounts import User as UserRow

Scope = Literal["sessions:write", "sessions:read", "models:write", "reports:read", "admin"]

#: Longest life of a key that is told in days: ten years.
MOST_DAYS = 3_650

#: Names of scopes in a request, one that is named twice among them.
MOST_SCOPES = 20

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
#: Something at something: whether mail arrives there is nothing that Clamor needs to know. Blanks
#: and control characters are told one by one: what ``\s`` is, regular expressions disagree on.
Email = Annotated[
    str,
    msgspec.Meta(pattern=r"^[^@\x00-\x20\x7f-\xa0]+@[^@\x00-\x20\x7f-\xa0]+$", max_length=254),
]


#: Requests a second.
Rate = Annotated[float, msgspec.Meta(gt=0, le=1e6)]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e12)]


class NewUser(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A user to be made."""

    email: Email
    name: Name
    #: Seconds of audio a month; null for as many as the installation's users may have.
    max_audio_s_per_month: Seconds | None = None


class UserChange(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What shall be another way with a user; what is not named stays."""

    #: Seconds of audio a month; null for as many as the installation's users may have.
    max_audio_s_per_month: Seconds | msgspec.UnsetType | None = msgspec.UNSET


class User(msgspec.Struct, kw_only=True):
    """Somebody on whose behalf recordings are analysed."""

    id: uuid.UUID
    email: str
    name: str
    created_at: datetime
    #: Since when none of the user's keys is taken; null while they are.
    disabled_at: datetime | None
    #: Seconds of audio a month; null for the installation's limit.
    max_audio_s_per_month: float | None

    @classmethod
    def of(cls, row: UserRow) -> User:
        """The user of a row."""
        return msgspec.convert(row, cls, from_attributes=True)


class UserPage(msgspec.Struct, kw_only=True):
    """The users, newest first."""

    items: list[User]


class NewKey(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A key to be made."""

    #: What it is for. Of one name a user has two active keys at most.
    name: Name
    scopes: Annotated[list[Scope], msgspec.Meta(min_length=1, max_length=MOST_SCOPES)]
    #: After how many days it is no longer taken; null for never.
    expires_in_days: Annotated[int, msgspec.Meta(ge=1, le=MOST_DAYS)] | None = None
    #: How many requests it may make; null for as many as the installation's keys may.
    requests_per_s: Rate | None = None


class KeyChange(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What shall be another way with a key; what is not named stays."""

    #: How many requests it may make; null for as many as the installation's keys may.
    requests_per_s: Rate | msgspec.UnsetType | None = msgspec.UNSET


class Rotation(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """How a key gives way to a new one."""

    #: For how many hours the old key is still taken.
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
    #: Null for the installation's rate.
    requests_per_s: float | None

    @classmethod
    def of(cls, row: ApiKey) -> Key:
        """The key of a row."""
        return msgspec.convert(row, cls, from_attributes=True)


class KeyPage(msgspec.Struct, kw_only=True):
    """A user's keys, newest first."""

    items: list[Key]


class MadeKey(msgspec.Struct, kw_only=True):
    """A key that was just made; ``secret`` is what its holder shows, and is told this once."""

    key: Key
    secret: str
