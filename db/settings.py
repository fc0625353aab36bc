"""Settings: the only reader of the environment.

Everything that an operator may set stands in :class:`Settings`, one field a variable, with its
default. The variables of the S3 client (``AWS_ACCESS_KEY_ID``, ``AWS_ENDPOINT_URL`` and so on)
are read by the object store's own library and are not repeated here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import platformdirs

Value = TypeVar("Value")

#: No batch has more recordings than this, whatever is set.
MOST_BATCH_ITEMS = 100_000
#: Names the folder of the standalone service.
HOME_VARIABLE = "CLAMOR_HOME"
#: That folder where root runs the service. Not below root's own home: the embedded Postgres then
#: runs as another user, which has to pass through every folder above its data.
ROOT_HOME = Path("/var/lib/clamor")
#: Names the weights of the backbone: the value for none, and what is before the hash of a file.
BACKBONE_VARIABLE, BACKBONE_OFF, BACKBONE_MARK = "CLAMOR_BACKBONE_URL", "off", "#sha256="


class SettingsError(Exception):
    """A setting is missing or cannot be read."""


def _setting(
    variable: str,
    default: Any = MISSING,
    *,
    parse: Callable[[str], Any] = str,
    secret: bool = False,
) -> Any:
    metadata = {"variable": variable, "parse": parse}
    if default is MISSING:
        return field(metadata=metadata, repr=False)
    return field(default=default, metadata=metadata, repr=not secret)


def _positive_float(text: str) -> float:
    value = float(text)
    if not value > 0:
        raise ValueError("must be above zero")
    return value


def _not_negative(text: str) -> float:
    value = float(text)
    if not 0 <= value < float("inf"):
        raise ValueError("must be a number that is not below zero")
    return value


def _switch(text: str) -> bool:
    known = {"on": True, "true": True, "1": True, "off": False, "false": False, "0": False}
    if text.lower() not in known:
        raise ValueError("must be on or off")
    return known[text.lower()]


def _not_negative_int(text: str) -> int:
    value = int(text)
    if value < 0:
        raise ValueError("must be at least 0")
    return value


def _positive_int(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError("must be at least 1")
    return value


def _batch_items(text: str) -> int:
    value = _positive_int(text)
    if value > MOST_BATCH_ITEMS:
        raise ValueError(f"must be at most {MOST_BATCH_ITEMS}")
    return value


def _networks(text: str) -> tuple[IPv4Network | IPv6Network, ...]:
    try:
        return tuple(ip_network(part.strip()) for part in text.split(",") if part.strip())
    except ValueError:
        raise ValueError("it must be networks such as 10.0.0.0/8, fd00::/8") from None


def _backbone_url(text: str) -> str:
    place, marked, sha256 = text.partition(BACKBONE_MARK)
    if not place or ("://" in place and not _is_web_address(place)):
        raise ValueError("it must be an http(s) address, a file, a folder or off")
    if marked and not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
        raise ValueError(f"{BACKBONE_MARK} must be followed by 64 hexadecimal digits")
    return text


def _is_web_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What an operator decides; made once a process by :func:`from_environment`."""

    #: Postgres, as a libpq URL: ``postgresql://user:password@host/name``.
    database_url: str = _setting("DATABASE_URL")
    #: RabbitMQ; ``memory://`` keeps messages inside this process (standalone mode).
    amqp_url: str = _setting("AMQP_URL")
    #: Where recordings and their products lie: ``file:///folder`` or ``s3://bucket/prefix``.
    blob_url: str = _setting("BLOB_URL")
    #: Put before every queue's name, so that several installations can share a broker.
    queue_prefix: str = _setting("CLAMOR_QUEUE_PREFIX", "clamor")
    #: RabbitMQ's management API, ``http://user:password@host:15672``, if there is one: it alone
    #: knows which messages are unacked.
    rabbitmq_api_url: str = _setting("CLAMOR_RABBITMQ_API_URL", "", secret=True)
    #: A worker that falls silent for this long loses its claim. Shorter recovers sooner from a
    #: dead worker; longer forgives a machine that stalls.
    lease_s: float = _setting("CLAMOR_LEASE_S", 30.0, parse=_positive_float)
    #: No step may run for longer than this; most may not for as long (`actors.execution.watchdog`).
    deadline_s: float = _setting("CLAMOR_DEADLINE_S", 1_500.0, parse=_positive_float)
    #: A step is given up after this many claims, whether they failed or killed their worker. More
    #: of them outlast a store that is away for longer.
    max_attempts: int = _setting("CLAMOR_MAX_ATTEMPTS", 5, parse=_positive_int)
    #: How often recovery looks for rows that are unfinished and quiet.
    recovery_s: float = _setting("CLAMOR_RECOVERY_S", 3.0, parse=_positive_float)
    #: A blob of a session that is not in the database is removed when it is as old as this: longer
    #: than any upload waits for its row.
    orphan_s: float = _setting("CLAMOR_ORPHAN_S", 3_600.0, parse=_positive_float)
    #: A blob that no row names is marked first, and removed so many days later if none does then.
    keep_orphans_days: float = _setting("CLAMOR_KEEP_ORPHANS_DAYS", 7.0, parse=_positive_float)
    #: A session is removed, with its recording, so many days after its end.
    keep_days: float = _setting("CLAMOR_KEEP_DAYS", 30.0, parse=_positive_float)
    #: Of each user and noise type, the surest events whose sound is kept when their sessions are
    #: removed.
    keep_best: int = _setting("CLAMOR_KEEP_BEST", 0, parse=_not_negative_int)
    #: For how many days an export can be downloaded.
    export_days: float = _setting("CLAMOR_EXPORT_DAYS", 7.0, parse=_positive_float)
    #: A recording with more bytes than this is refused while it arrives.
    max_upload_bytes: int = _setting("CLAMOR_MAX_UPLOAD_BYTES", 2 * 1024**3, parse=_positive_int)
    #: A recording that lasts longer than this is refused: by its header, or while it is decoded.
    max_duration_s: float = _setting("CLAMOR_MAX_DURATION_S", 24 * 3600.0, parse=_positive_float)
    #: A recording with more channels, or with more samples a second, is refused by its header. The
    #: decoders take 64 channels and 768 kHz at most, whatever stands here.
    max_channels: int = _setting("CLAMOR_MAX_CHANNELS", 32, parse=_positive_int)
    max_rate_hz: int = _setting("CLAMOR_MAX_RATE_HZ", 384_000, parse=_positive_int)
    #: A batch with more recordings than this is refused. A larger one takes more memory at once: a
    #: list of keys may have a kilobyte for each.
    max_batch_items: int = _setting("CLAMOR_MAX_BATCH_ITEMS", 10_000, parse=_batch_items)
    #: Streams of events that one server process allows at once; each has a thread.
    event_streams: int = _setting("CLAMOR_EVENT_STREAMS", 16, parse=_positive_int)
    #: Networks that callers' URLs may lead to although they are not public; in a private
    #: installation for instance the one of its own recorders.
    private_networks: tuple[IPv4Network | IPv6Network, ...] = _setting(
        "CLAMOR_ALLOW_PRIVATE_ADDRESSES", (), parse=_networks
    )
    #: Mixed into the hash of every API key, so that the database alone makes none: random
    #: characters, the same for all API processes. Another one makes all keys useless.
    key_pepper: str = _setting("CLAMOR_KEY_PEPPER", "", secret=True)
    #: Where traces are sent, by OTLP over HTTP: the collector's base URL. Nothing is traced
    #: without it.
    otlp_endpoint: str = _setting("OTEL_EXPORTER_OTLP_ENDPOINT", "")
    #: Requests that a key may make each second, unless it has a rate of its own; 0 for no limit.
    rate_limit_per_s: float = _setting("CLAMOR_RATE_LIMIT", 50.0, parse=_not_negative)
    #: A key that was quiet may make this many seconds' requests at once.
    rate_burst_s: float = _setting("CLAMOR_RATE_BURST_S", 4.0, parse=_positive_float)
    #: Seconds of audio that a user may have analysed a month, unless they have a limit of their
    #: own; None for any number.
    max_audio_s_per_month: float | None = _setting(
        "CLAMOR_MAX_AUDIO_S_PER_MONTH", None, parse=_not_negative
    )
    #: For how many days the records of requests are kept. Usage by key is told from them.
    keep_requests_days: float = _setting("CLAMOR_KEEP_REQUESTS_DAYS", 90.0, parse=_positive_float)
    #: Whether each request has a line in the log.
    access_log: bool = _setting("CLAMOR_ACCESS_LOG", True, parse=_switch)
    #: Where the weights of the backbone are fetched from, instead of their official address; see
    #: ``actors/backbones.py``.
    backbone_url: str = _setting(BACKBONE_VARIABLE, "", parse=_backbone_url, secret=True)
    #: DEBUG, INFO, WARNING or ERROR.
    log_level: str = _setting("CLAMOR_LOG_LEVEL", "INFO", parse=lambda text: text.strip().upper())

    @property
    def has_access_log(self) -> bool:
        """Whether the lines of the access log are wanted, which are of the level INFO."""
        return self.access_log and self.log_level in ("DEBUG", "INFO")

    @property
    def in_memory_broker(self) -> bool:
        """Whether messages stay inside this process."""
        return self.amqp_url.startswith("memory:")


def from_environment(environment: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings.

    Raises
    ------
    SettingsError
        If a variable that has no default is not set, or one cannot be parsed; the message names
        the variable and never repeats its value.
    """
    values: dict[str, Any] = {}
    for setting in fields(Settings):
        variable = setting.metadata["variable"]
        text = environment.get(variable, "").strip()
        if not text:
            if setting.default is MISSING:
                raise SettingsError(f"{variable} is not set; see docs/settings.md")
            continue
        values[setting.name] = _parsed(variable, text, setting.metadata["parse"])
    return Settings(**values)


def backbone_url(environment: Mapping[str, str] = os.environ) -> str:
    """Read that setting alone: the weights are fetched before there is an installation.

    Raises
    ------
    SettingsError
        If it cannot be parsed.
    """
    text = environment.get(BACKBONE_VARIABLE, "").strip()
    return _parsed(BACKBONE_VARIABLE, text, _backbone_url) if text else ""


def _parsed(variable: str, text: str, parse: Callable[[str], Value]) -> Value:
    try:
        return parse(text)
    except ValueError as error:
        reason = str(error) if "must be" in str(error) else "it must be a number"
        raise SettingsError(f"{variable} cannot be read: {reason}") from None


def home_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Return the folder of the standalone service: ``CLAMOR_HOME``, else the user's data folder."""
    if named := environment.get(HOME_VARIABLE, "").strip():
        return Path(named).expanduser()
    if os.geteuid() == 0:
        return ROOT_HOME
    return Path(platformdirs.user_data_dir("clamor"))
