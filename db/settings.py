"""Settings: the only reader of the environment.

Everything that an operator may set is a field of :class:`Settings`, one per variable, with its
default. The other variables of the S3 client (``AWS_ENDPOINT_URL``, ``AWS_REGION`` and so on) are
read by the object store's library and are not repeated here.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any

import platformdirs

from db import environment as variables
from db import setting_parsers as parsers
from db.connection_options import TRANSACTION_POOLER, ConnectionOptions

#: Names the folder of the standalone service.
HOME_VARIABLE = "CLAMOR_HOME"
#: That folder if root runs the service. Not below root's home: the embedded Postgres then runs as
#: another user, which needs access to every folder above its data.
ROOT_HOME = Path("/var/lib/clamor")
#: Names the weights of the backbone. ``off`` means none.
BACKBONE_VARIABLE, BACKBONE_OFF = "CLAMOR_BACKBONE_URL", "off"
#: Name the database, and the same database for migrations.
DATABASE_VARIABLE, MIGRATION_VARIABLE = "DATABASE_URL", "CLAMOR_MIGRATION_URL"
#: The pepper, which only processes with an API require.
PEPPER_VARIABLE = "CLAMOR_KEY_PEPPER"
#: The keys of the secrets of webhooks, which processes with an API and workers require.
WEBHOOK_KEYS_VARIABLE = "CLAMOR_SECRET_KEYS"
#: Variables of the commands that are not settings of an installation.
COMMAND_VARIABLES = (HOME_VARIABLE, "CLAMOR_API_KEY")


class SettingsError(Exception):
    """Settings are missing, unknown or cannot be read; the message has a line for each fault."""


def _setting(
    variable: str,
    default: Any = MISSING,
    *,
    parse: Callable[[str], Any] = str,
    secret: bool = False,
) -> Any:
    metadata = {"variable": variable, "parse": parse, "secret": secret}
    if default is MISSING:
        return field(metadata=metadata, repr=not secret)
    return field(default=default, metadata=metadata, repr=not secret)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The operator's settings, read once per process by :func:`from_environment`."""

    # -- Services --

    #: Postgres 15 or newer, as a libpq URL: ``postgresql://user:password@host/name``.
    database_url: str = _setting(DATABASE_VARIABLE, parse=parsers.database_url, secret=True)
    #: The database as the role that owns the tables, for ``clamor migrate`` alone: a direct
    #: connection, not through PgBouncer. Without it ``DATABASE_URL`` is used.
    migration_url: str = _setting(MIGRATION_VARIABLE, "", parse=parsers.database_url, secret=True)
    #: RabbitMQ 3.10 or newer: ``amqp://user:password@host/vhost``.
    amqp_url: str = _setting("AMQP_URL", parse=parsers.amqp_url, secret=True)
    #: The store of recordings and their products: ``file:///folder``, or ``s3://bucket/prefix``
    #: with the usual ``AWS_*`` variables.
    blob_url: str = _setting("BLOB_URL", parse=parsers.blob_url)
    #: The access key of the S3 store. Without it and its secret the library looks for credentials
    #: as Amazon's own tools do, such as those of a pod's role.
    s3_key_id: str = _setting("AWS_ACCESS_KEY_ID", "", secret=True)
    #: The secret of that key.
    s3_secret: str = _setting("AWS_SECRET_ACCESS_KEY", "", secret=True)
    #: Prefix of every queue's name, so that several installations can share a broker.
    queue_prefix: str = _setting("CLAMOR_QUEUE_PREFIX", "clamor")
    #: RabbitMQ's management API, ``http://user:password@host:15672``, if there is one. It is the
    #: only source for the number of unacknowledged messages.
    rabbitmq_api_url: str = _setting(
        "CLAMOR_RABBITMQ_API_URL", "", parse=parsers.web_address, secret=True
    )
    #: The source of the backbone's weights for ``clamor model fetch``, instead of their official
    #: address: an http(s) address, a file or a folder with the same bytes; with ``#sha256=HEX``
    #: appended, another file of the family; ``off`` for no backbone. Workers and API need the value
    #: too (docs/model.md#the-backbone).
    backbone_url: str = _setting(BACKBONE_VARIABLE, "", parse=parsers.backbone_url, secret=True)
    #: The base URL of the collector that traces are sent to by OTLP over HTTP, such as
    #: ``http://collector:4318``. Without it nothing is traced (docs/operations.md#traces).
    otlp_endpoint: str = _setting("OTEL_EXPORTER_OTLP_ENDPOINT", "", parse=parsers.web_address)

    # -- Database connections --

    #: ``transaction`` if ``DATABASE_URL`` names PgBouncer in transaction mode, or a pooler like it
    #: (docs/dba.md#pgbouncer). ``none`` for Postgres itself, or a pooler in session mode.
    database_pooler: str = _setting(
        "CLAMOR_DATABASE_POOLER", ConnectionOptions.database_pooler, parse=parsers.pooler
    )
    #: The most connections of an API process: one for each of its 16 threads by default.
    api_pool_size: int = _setting("CLAMOR_API_POOL_SIZE", 16, parse=parsers.positive_int)
    #: The most connections of a worker process, which renews its lease beside its work.
    worker_pool_size: int = _setting("CLAMOR_WORKER_POOL_SIZE", 5, parse=parsers.positive_int)
    #: How long a request waits for a free connection of its process before it is answered 503.
    pool_timeout_s: float = _setting(
        "CLAMOR_POOL_TIMEOUT_S", ConnectionOptions.pool_timeout_s, parse=parsers.timeout
    )
    #: How long a process waits for a new connection; at least 2 s, in whole seconds.
    connect_timeout_s: float = _setting(
        "CLAMOR_CONNECT_TIMEOUT_S", ConnectionOptions.connect_timeout_s, parse=parsers.timeout
    )
    #: A statement of a request that runs for longer is ended, and answered 503. A second later the
    #: API closes the connection to a server that does not answer
    #: (docs/reliability.md#servers-that-do-not-answer).
    api_statement_timeout_s: float = _setting(
        "CLAMOR_API_STATEMENT_TIMEOUT_S", 5.0, parse=parsers.timeout
    )
    #: Any other statement that runs for longer is ended. Migrations and VACUUM have their own
    #: limits.
    statement_timeout_s: float = _setting(
        "CLAMOR_STATEMENT_TIMEOUT_S", ConnectionOptions.statement_timeout_s, parse=parsers.timeout
    )
    #: A statement that waits for a lock for longer is ended.
    lock_timeout_s: float = _setting(
        "CLAMOR_LOCK_TIMEOUT_S", ConnectionOptions.lock_timeout_s, parse=parsers.timeout
    )
    #: A connection whose transaction is idle for longer is closed by Postgres.
    idle_in_transaction_timeout_s: float = _setting(
        "CLAMOR_IDLE_IN_TRANSACTION_TIMEOUT_S",
        ConnectionOptions.idle_in_transaction_timeout_s,
        parse=parsers.timeout,
    )

    # -- Access --

    #: Mixed into the hash of every API key, so that the database alone is not enough to forge one:
    #: at least 32 random characters, the same for all API processes, which require it. Changing it
    #: invalidates all keys, unless the old one follows after a comma (docs/accounts.md#keys).
    key_pepper: str = _setting(PEPPER_VARIABLE, "", parse=parsers.pepper, secret=True)
    #: Encrypt the secrets of webhooks in the database: keys of at least 32 random characters,
    #: separated by commas, the same for all API and worker processes, which require one. The first
    #: one encrypts, the others decrypt what they encrypted before (docs/webhooks.md#keys).
    secret_keys: tuple[str, ...] = _setting(
        WEBHOOK_KEYS_VARIABLE, (), parse=parsers.secret_keys, secret=True
    )
    #: Requests per second and key, unless the key has its own rate; 0 for no limit
    #: (docs/limits.md#rate).
    rate_limit_per_s: float = _setting("CLAMOR_RATE_LIMIT", 50.0, parse=parsers.not_negative)
    #: An idle key may make this many seconds' worth of requests at once.
    rate_burst_s: float = _setting("CLAMOR_RATE_BURST_S", 4.0, parse=parsers.positive_float)
    #: Seconds of audio per user and month, unless the user has their own limit; without it there is
    #: no limit. A second of more than 96,000 samples counts as several (docs/limits.md#quota).
    max_audio_s_per_month: float | None = _setting(
        "CLAMOR_MAX_AUDIO_S_PER_MONTH", None, parse=parsers.not_negative
    )
    #: Unfinished sessions per user; more recordings are refused until some have ended
    #: (docs/limits.md#budgets).
    max_unfinished_sessions: int = _setting(
        "CLAMOR_MAX_UNFINISHED_SESSIONS", 100_000, parse=parsers.positive_int
    )
    #: Bytes of a user's stored recordings, and of their decoded audio until they are processed,
    #: beyond which more are refused; without it there is no limit (docs/limits.md#budgets).
    max_stored_bytes: int | None = _setting(
        "CLAMOR_MAX_STORED_BYTES", None, parse=parsers.positive_int
    )
    #: Unfinished exports per user.
    max_unfinished_exports: int = _setting(
        "CLAMOR_MAX_UNFINISHED_EXPORTS", 20, parse=parsers.positive_int
    )
    #: Unfinished trainings and validations per user.
    max_unfinished_trainings: int = _setting(
        "CLAMOR_MAX_UNFINISHED_TRAININGS", 20, parse=parsers.positive_int
    )
    #: Networks that callers' URLs may lead to although they are not public, such as the network of
    #: the recorders in a private installation: ``10.1.0.0/16, fd00::/8``.
    private_networks: tuple[IPv4Network | IPv6Network, ...] = _setting(
        "CLAMOR_ALLOW_PRIVATE_ADDRESSES", (), parse=parsers.networks
    )
    #: Origins whose pages may call the API from a browser, such as ``https://noise.example.org``,
    #: separated by commas (docs/operations.md#browsers).
    allowed_origins: tuple[str, ...] = _setting("CLAMOR_ALLOW_ORIGINS", (), parse=parsers.origins)

    # -- Connections --

    #: Connections that one server process keeps open; beyond, those that were silent for longest
    #: are closed (docs/security.md#connections).
    connections: int = _setting("CLAMOR_CONNECTIONS", 4_096, parse=parsers.positive_int)
    #: Those of them from one address; an IPv6 network of 64 bits counts as one.
    connections_per_address: int = _setting(
        "CLAMOR_CONNECTIONS_PER_ADDRESS", 1_024, parse=parsers.positive_int
    )
    #: Requests with a body that one server process serves at once; each takes a thread.
    uploads: int = _setting("CLAMOR_UPLOADS", 64, parse=parsers.positive_int)
    #: Files and answers of more than 256 KiB that it sends at once; each takes a thread.
    downloads: int = _setting("CLAMOR_DOWNLOADS", 64, parse=parsers.positive_int)
    #: Event streams that it allows at once; each takes a thread (docs/event-stream.md).
    event_streams: int = _setting("CLAMOR_EVENT_STREAMS", 32, parse=parsers.positive_int)
    #: The share of these uploads, downloads and event streams that one user may have at once.
    user_share: float = _setting("CLAMOR_USER_SHARE", 0.5, parse=parsers.share)

    # -- Recordings --

    #: A larger recording is rejected during its upload; so are the clips of a form that are larger
    #: together.
    max_upload_bytes: int = _setting(
        "CLAMOR_MAX_UPLOAD_BYTES", 2 * 1024**3, parse=parsers.positive_int
    )
    #: A longer recording is rejected: by its header, or during decoding.
    max_duration_s: float = _setting(
        "CLAMOR_MAX_DURATION_S", 24 * 3600.0, parse=parsers.positive_float
    )
    #: A recording with more channels is rejected by its header. The decoders never accept more than
    #: 64.
    max_channels: int = _setting("CLAMOR_MAX_CHANNELS", 32, parse=parsers.positive_int)
    #: A recording with a higher sample rate is rejected by its header. The decoders never accept
    #: more than 768 kHz.
    max_rate_hz: int = _setting("CLAMOR_MAX_RATE_HZ", 768_000, parse=parsers.positive_int)
    #: A batch with more recordings is rejected. More takes more memory at once: a list of keys may
    #: have a kilobyte for each (docs/limits.md#bodies).
    max_batch_items: int = _setting("CLAMOR_MAX_BATCH_ITEMS", 10_000, parse=parsers.batch_items)

    # -- Work --

    #: A worker that does not renew its claim for this long loses it. Shorter recovers sooner from a
    #: dead worker; longer tolerates a machine that stalls.
    lease_s: float = _setting("CLAMOR_LEASE_S", 30.0, parse=parsers.positive_float)
    #: The longest run of any step, which is then stopped and tried again; most steps have shorter
    #: limits, a span 120 s.
    deadline_s: float = _setting("CLAMOR_DEADLINE_S", 1_500.0, parse=parsers.positive_float)
    #: A step is given up after this many claims, whether they failed or killed their worker. Those
    #: that failed since the installation did, such as its disk or its database, do not count
    #: (docs/reliability.md#waiting-for-storage).
    max_attempts: int = _setting("CLAMOR_MAX_ATTEMPTS", 5, parse=parsers.positive_int)
    #: A recording of at most this many seconds is processed in one claim and stored in one
    #: transaction, which takes a worker 6 MB of memory a minute; a longer one is split into spans,
    #: which several workers share. More than 96,000 samples a second, of all channels together,
    #: count as more seconds. 0 splits every recording (docs/reliability.md#one-claim).
    one_claim_s: float = _setting("CLAMOR_ONE_CLAIM_S", 600.0, parse=parsers.not_negative)
    #: How often recovery looks for stalled rows.
    recovery_s: float = _setting("CLAMOR_RECOVERY_S", 3.0, parse=parsers.positive_float)

    # -- Retention --

    #: A session is removed, with its recording, this many days after its end (docs/maintenance.md).
    keep_days: float = _setting("CLAMOR_KEEP_DAYS", 30.0, parse=parsers.days)
    #: How many of the most confident detections per user and noise type keep their audio when their
    #: sessions are removed.
    keep_best: int = _setting("CLAMOR_KEEP_BEST", 0, parse=parsers.not_negative_int)
    #: For how many days an export can be downloaded (docs/exports.md).
    export_days: float = _setting("CLAMOR_EXPORT_DAYS", 7.0, parse=parsers.days)
    #: The age from which a blob without a row is an orphan: longer than any upload waits for its
    #: row. Files of trainings and validations, and unclaimed uploads to the store, have 24 times
    #: as long.
    orphan_s: float = _setting("CLAMOR_ORPHAN_S", 3_600.0, parse=parsers.positive_float)
    #: An orphan is marked first, and removed this many days later if it still has no row
    #: (docs/maintenance.md#blobs-that-no-row-names).
    keep_orphans_days: float = _setting("CLAMOR_KEEP_ORPHANS_DAYS", 7.0, parse=parsers.days)
    #: For how many days the request log is kept, and then to the end of its month. Usage by key is
    #: computed from it (docs/limits.md#records).
    keep_requests_days: float = _setting("CLAMOR_KEEP_REQUESTS_DAYS", 90.0, parse=parsers.days)
    #: For how many days the deliveries of webhooks are kept.
    keep_deliveries_days: float = _setting("CLAMOR_KEEP_DELIVERIES_DAYS", 30.0, parse=parsers.days)
    #: The runs of periodic jobs are removed after this many days, and the metrics of work with the
    #: month in which they all are as old; 0 keeps both (docs/maintenance.md#other-rows).
    keep_runs_days: float = _setting("CLAMOR_KEEP_RUNS_DAYS", 90.0, parse=parsers.days_or_zero)
    #: A batch without sessions is removed this many days after its end; 0 keeps it.
    keep_batches_days: float = _setting(
        "CLAMOR_KEEP_BATCHES_DAYS", 90.0, parse=parsers.days_or_zero
    )
    #: A daily report is removed this many days after it was last generated; 0 keeps it.
    keep_reports_days: float = _setting("CLAMOR_KEEP_REPORTS_DAYS", 0.0, parse=parsers.days_or_zero)
    #: A training is removed, with its clips, this many days after its end; 0 keeps it. Its model
    #: stays.
    keep_trainings_days: float = _setting(
        "CLAMOR_KEEP_TRAININGS_DAYS", 0.0, parse=parsers.days_or_zero
    )
    #: A validation is removed, with its labelled set, this many days after its end; 0 keeps it.
    keep_validations_days: float = _setting(
        "CLAMOR_KEEP_VALIDATIONS_DAYS", 0.0, parse=parsers.days_or_zero
    )

    # -- Probes --

    #: Where a process also answers probes and metrics, such as ``0.0.0.0:8001``
    #: (docs/operations.md#probes), by separate threads. Without it workers and the scheduler
    #: answer none, and the API only beside other requests. Processes of one command share it;
    #: others on the same machine need another port.
    probe_address: tuple[str, int] | None = _setting(
        "CLAMOR_PROBE_ADDRESS", None, parse=parsers.listening_address
    )

    # -- Logs --

    #: Whether each request is logged as a line (docs/limits.md#access-log).
    access_log: bool = _setting("CLAMOR_ACCESS_LOG", True, parse=parsers.switch)
    #: ``DEBUG``, ``INFO``, ``WARNING`` or ``ERROR``.
    log_level: str = _setting("CLAMOR_LOG_LEVEL", "INFO", parse=parsers.level)

    @property
    def has_access_log(self) -> bool:
        """Whether the access log, whose lines have the level INFO, is enabled."""
        return self.access_log and self.log_level in ("DEBUG", "INFO")

    def connection_options(self, application_name: str) -> ConnectionOptions:
        """Return how a process of this name connects to Postgres."""
        given = {name: getattr(self, name) for name in _CONNECTION_SETTINGS}
        return ConnectionOptions(application_name=application_name, **given)

    @property
    def s3_credentials(self) -> dict[str, str]:
        """The credentials for the library of the S3 store that are set here."""
        given = {"access_key_id": self.s3_key_id, "secret_access_key": self.s3_secret}
        return {name: value for name, value in given.items() if value}

    @property
    def in_memory_broker(self) -> bool:
        """Whether messages stay inside this process."""
        return self.amqp_url.startswith("memory:")


_CONNECTION_SETTINGS = {each.name for each in fields(ConnectionOptions)} - {"application_name"}


def from_environment(
    environment: Mapping[str, str] = os.environ, *, required: Collection[str] = ()
) -> Settings:
    """Read the settings. A secret may be in a file that its variable with ``_FILE`` names.

    ``required`` are the variables with a default that this process requires nevertheless.

    Raises
    ------
    SettingsError
        If a variable is missing, cannot be parsed, or begins with ``CLAMOR_`` and is not a setting.
        The message has a line for each fault, with the variable and never its value.
    """
    must = {*required, *(_variable(each) for each in fields(Settings) if each.default is MISSING)}
    return Settings(**_read(environment, fields(Settings), must))


def connection_options(environment: Mapping[str, str] = os.environ) -> ConnectionOptions:
    """Read the settings of connections alone, since SQL is printed without an installation.

    Raises
    ------
    SettingsError
        As for :func:`from_environment`.
    """
    return ConnectionOptions(**_read(environment, _named(*_CONNECTION_SETTINGS)))


def backbone_url(environment: Mapping[str, str] = os.environ) -> str:
    """Read this setting alone, as the weights are fetched before there is an installation.

    Raises
    ------
    SettingsError
        As for :func:`from_environment`.
    """
    return str(_read(environment, _named("backbone_url")).get("backbone_url", ""))


def migration_url(environment: Mapping[str, str] = os.environ) -> str:
    """Read this setting alone, as a migration needs neither a broker nor a blob store.

    Raises
    ------
    SettingsError
        If there is no database, or only one behind a pooler that cannot hold the lock of
        migrations; or as for :func:`from_environment`.
    """
    found = _read(environment, _named("migration_url", "database_url", *_CONNECTION_SETTINGS))
    if "migration_url" in found:
        return str(found["migration_url"])
    if found.get("database_pooler") == TRANSACTION_POOLER:
        raise SettingsError(
            f"{MIGRATION_VARIABLE} is not set: migrations need the URL of Postgres itself, not of a"
            " pooler in transaction mode"
        )
    if "database_url" in found:
        return str(found["database_url"])
    raise SettingsError(variables.missing(DATABASE_VARIABLE))


def is_given(*names: str, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether one of these variables is set, itself or by a file."""
    both = (name + suffix for name in names for suffix in ("", variables.FILE_SUFFIX))
    return any(environment.get(name, "").strip() for name in both)


def known_variables() -> list[str]:
    """Return the name of every variable that this release reads."""
    secrets = [_variable(each) for each in fields(Settings) if each.metadata["secret"]]
    return [
        *(_variable(each) for each in fields(Settings)),
        *(name + variables.FILE_SUFFIX for name in secrets),
        *COMMAND_VARIABLES,
    ]


def _read(
    environment: Mapping[str, str],
    wanted: Iterable[Field[Any]],
    required: Collection[str] = (),
) -> dict[str, Any]:
    """Return the values of the variables that are set, by the names of their settings."""
    faults = variables.unknown(environment, known_variables())
    values: dict[str, Any] = {}
    for setting in wanted:
        variable = _variable(setting)
        try:
            text = variables.text(environment, variable, is_secret=setting.metadata["secret"])
            if text:
                values[setting.name] = setting.metadata["parse"](text)
            elif variable in required:
                faults.append(variables.missing(variable))
        except ValueError as error:
            faults.append(variables.unreadable(variable, error))
    if faults:
        raise SettingsError("\n".join(faults))
    return values


def _variable(setting: Field[Any]) -> str:
    return str(setting.metadata["variable"])


def _named(*names: str) -> list[Field[Any]]:
    return [each for each in fields(Settings) if each.name in names]


def home_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Return the folder of the standalone service: ``CLAMOR_HOME`` or the user's data folder."""
    if named := environment.get(HOME_VARIABLE, "").strip():
        return Path(named).expanduser()
    if os.geteuid() == 0:
        return ROOT_HOME
    return Path(platformdirs.user_data_dir("clamor"))
