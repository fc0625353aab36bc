"""The dependencies of the application, and what its parts derive from them."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from functools import cached_property

from actors.messaging.broker import Publisher
from actors.outbound import backbones
from actors.outbound.client import Outbound
from db.blobs.blob_store import Blobs
from db.secret_box import SecretBox
from db.settings import Settings
from db.store import Store
from services.http import keys
from services.http.connection_guard import ConnectionGuard
from services.http.places import Places
from services.http.quotas import Quota
from services.http.rate_limits import RateLimiter
from services.http.request_log import RequestLog


@dataclass(frozen=True)
class Deps:
    """The dependencies of the application."""

    settings: Settings
    store: Store
    blobs: Blobs
    publisher: Publisher
    #: Writes a row for each request; None disables the request log.
    recorder: RequestLog | None = None
    #: Enforces the rate limits of keys; None disables them.
    limiter: RateLimiter | None = None
    #: Ends connections that break a limit; None without a server.
    guard: ConnectionGuard | None = None
    #: Set when the process is stopping: event streams, which last for minutes, then end.
    stopping: threading.Event = field(default_factory=threading.Event)

    @cached_property
    def hasher(self) -> keys.Hasher:
        """Hashes the secrets of keys."""
        return keys.Hasher(self.settings.key_pepper)

    @cached_property
    def secret_box(self) -> SecretBox:
        """Encrypts the secrets of webhooks."""
        return SecretBox(self.settings.secret_keys)

    @cached_property
    def outbound(self) -> Outbound:
        """Checks the addresses that callers give."""
        return Outbound(self.settings.private_networks)

    @cached_property
    def quota(self) -> Quota:
        """Limits what each user may use."""
        return Quota(self.store, self.settings)

    @cached_property
    def places(self) -> Places:
        """Bound the transfers of each user and of the process."""
        return Places(self.settings)

    @cached_property
    def backbone(self) -> backbones.WeightsSource | None:
        """The backbone of the installation, without which speech cannot be muted; None if off."""
        return backbones.source(self.settings.backbone_url)
