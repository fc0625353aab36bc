"""``clamor config check``: reach each dependency of an installation, and print what it answers.

A check does what the processes do later: it reads the schema and the rights on tables, declares a
queue and takes a message from it, writes a blob and removes it.
"""

from __future__ import annotations

import json
import os
import ssl
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx
import pika
import psycopg
from dramatiq.brokers.stub import StubBroker
from rich.console import Console
from rich.table import Table
from sqlalchemy import text

from actors.messaging import broker, queues
from db import migrate
from db.blobs.blob_store import Blobs
from db.blobs.errors import BlobError, BlobMissing
from db.migration.errors import MigrationError
from db.settings import Settings
from db.store import Store
from db.tables.base import Base
from db.unreachable import DatabaseUnreachable
from services.cli.actions import targets

WELL, UNWELL = 0, 1
#: The folder of the blob that is written and removed.
FOLDER = "config-check"
#: How long a web server may take to answer.
TIMEOUT_S = 5.0
#: The tables on which the role of the settings lacks a right that Clamor's processes need.
_FORBIDDEN = text("""
    SELECT name FROM unnest(CAST(:tables AS text[])) name
    WHERE to_regclass(name) IS NULL
       OR NOT (has_table_privilege(name, 'SELECT') AND has_table_privilege(name, 'INSERT')
               AND has_table_privilege(name, 'UPDATE') AND has_table_privilege(name, 'DELETE'))
    ORDER BY name
""")


class DependencyFault(Exception):
    """A dependency does not do what Clamor needs. The message says what, and contains no secret."""


@dataclass(frozen=True)
class Dependency:
    """A dependency, the variable that names it, and a function that says what it found.

    The function raises :class:`DependencyFault`, or an error of the dependency's own.
    """

    part: str
    variable: str
    look: Callable[[Settings], str]


def show(settings: Settings, *, as_json: bool) -> int:
    """Print a line for each dependency; return 1 if one has a fault."""
    found = [(each, *_outcome(each, settings)) for each in _wanted(settings)]
    if as_json:
        parts = {each.part: {"ok": ok, "found": what} for each, ok, what in found}
        print(json.dumps(parts))
    else:
        table = Table("part", "", "found", "setting")
        for each, ok, what in found:
            table.add_row(each.part, "ok" if ok else "FAULT", what, each.variable)
        Console().print(table)
    return WELL if all(ok for _, ok, _ in found) else UNWELL


def _wanted(settings: Settings) -> list[Dependency]:
    found = [
        Dependency("database", "DATABASE_URL", database),
        Dependency("broker", "AMQP_URL", rabbitmq),
        Dependency("blobs", "BLOB_URL", blobs),
        Dependency("pepper", "CLAMOR_KEY_PEPPER", pepper),
        Dependency("keys of secrets", "CLAMOR_SECRET_KEYS", secret_keys),
    ]
    if settings.rabbitmq_api_url:
        found.append(Dependency("management API", "CLAMOR_RABBITMQ_API_URL", management_api))
    if settings.otlp_endpoint:
        found.append(Dependency("traces", "OTEL_EXPORTER_OTLP_ENDPOINT", traces))
    return found


def _outcome(dependency: Dependency, settings: Settings) -> tuple[bool, str]:
    try:
        return True, dependency.look(settings)
    except (
        DependencyFault,
        DatabaseUnreachable,
        MigrationError,
        BlobError,
        queues.BrokerUnavailable,
    ) as error:
        return False, str(error)


# -- Postgres -----------------------------------------------------------------------------------


def database(settings: Settings) -> str:
    """Return the version, TLS, role and revision of the database; its role must own its rows."""
    with targets.store(settings) as store:
        version, role, revision = _of_database(store)
        encrypted = _tls_of_database(store)
        forbidden = _forbidden_tables(store)
    if forbidden:
        raise DependencyFault(
            f"the role {role} lacks SELECT, INSERT, UPDATE or DELETE on {', '.join(forbidden)}: "
            "run clamor migrate --grant --apply (docs/dba.md#roles)"
        )
    pooler = ", through a pooler" if settings.database_pooler != "none" else ""
    return f"Postgres {version}{pooler}, {encrypted}, role {role}, schema {revision}"


def _of_database(store: Store) -> tuple[str, str, str | None]:
    with store.engine.connect() as connection:
        migrate.require(connection)
        version, role = connection.execute(
            text("SELECT split_part(current_setting('server_version'), ' ', 1), current_user")
        ).one()
        return version, role, migrate.current(connection)


def _tls_of_database(store: Store) -> str:
    with store.engine.connect() as connection:
        driver = connection.connection.driver_connection
        assert isinstance(driver, psycopg.Connection)
        return _tls(driver.pgconn.ssl_in_use)


def _forbidden_tables(store: Store) -> list[str]:
    with store.engine.connect() as connection:
        found = connection.execute(_FORBIDDEN, {"tables": sorted(Base.metadata.tables)})
        return list(found.scalars())


# -- RabbitMQ -----------------------------------------------------------------------------------


def rabbitmq(settings: Settings) -> str:
    """Return the version and TLS of the broker; the user must be able to use its queues."""
    consuming = broker.setup(settings)
    if isinstance(consuming, StubBroker):
        return "in the memory of the service"
    with queues.connected(consuming) as connection:
        _use_queue(connection, f"{settings.queue_prefix}.config-check-{uuid.uuid4().hex}")
        version = connection._impl.server_properties.get("version", "?")
    parameters = queues.connection_parameters(consuming)
    encrypted = _tls(parameters.ssl_options is not None)
    return (
        f"RabbitMQ {version}, {encrypted}, virtual host {parameters.virtual_host},"
        f" user {parameters.credentials.username}"
    )


def _use_queue(connection: pika.BlockingConnection, queue: str) -> None:
    """Declare a queue as this connection's own, send a message through it, and remove it."""
    try:
        channel = connection.channel()
        channel.confirm_delivery()
        channel.queue_declare(queue, exclusive=True, auto_delete=True)
        channel.basic_publish("", queue, b"check", mandatory=True)
        method, _, _ = channel.basic_get(queue, auto_ack=True)
        channel.queue_delete(queue)
    except pika.exceptions.ChannelClosedByBroker as error:
        raise DependencyFault(
            f"the user may not use the queues of this prefix ({error.reply_text}): grant configure,"
            " write and read"
        ) from error
    if method is None:
        raise DependencyFault("a message that was confirmed is not in its queue")


def management_api(settings: Settings) -> str:
    """Return the version that RabbitMQ's management API answers."""
    given = httpx.URL(settings.rabbitmq_api_url)
    url = given.copy_with(userinfo=b"", raw_path=f"{given.path.rstrip('/')}/api/overview".encode())
    answer = _asked(url, auth=(given.username, given.password))
    if answer.is_error:
        raise DependencyFault(
            f"it answers {answer.status_code}: check the user and its tag (monitoring)"
        )
    return f"RabbitMQ {answer.json().get('rabbitmq_version', '?')}, {_tls(given.scheme == 'https')}"


# -- The blob store -----------------------------------------------------------------------------


def blobs(settings: Settings) -> str:
    """Return what kind of store it is; a blob must be written, read, listed and removed."""
    store = Blobs.of(settings)
    store.check()
    key, content = f"{FOLDER}/{uuid.uuid4().hex}", b"check"
    try:
        store.put(key, content)
        if store.get(key) != content:
            raise DependencyFault("a blob is not read as it was written")
        if key not in store.keys(f"{FOLDER}/"):
            raise DependencyFault("a blob that was written is not listed: allow ListBucket")
    except BlobMissing:
        raise DependencyFault("a blob that was written is missing") from None
    finally:
        store.delete(key)
    if key in store.keys(f"{FOLDER}/"):
        raise DependencyFault("a blob cannot be removed: allow DeleteObject")
    if (room := store.room()) is not None:
        return f"a folder, {room.free / 1024**3:.1f} GiB free"
    endpoint = os.environ.get("AWS_ENDPOINT_URL", "https://")
    bucket = urlsplit(settings.blob_url).netloc
    return f"bucket {bucket}, {_tls(endpoint.startswith('https:'))}"


# -- The others ---------------------------------------------------------------------------------


def pepper(settings: Settings) -> str:
    """Dependency that there is a pepper. Whether it is the one of the stored keys, no row shows."""
    if not settings.key_pepper:
        raise DependencyFault("it is not set: the API does not start without it (docs/accounts.md)")
    return f"{len(settings.key_pepper)} characters"


def secret_keys(settings: Settings) -> str:
    """Return how many keys encrypt and decrypt the secrets of webhooks."""
    if not settings.secret_keys:
        raise DependencyFault(
            "it is not set: API and workers do not start without it (docs/webhooks.md)"
        )
    return f"{len(settings.secret_keys)} keys"


def traces(settings: Settings) -> str:
    """Return whether the collector answers, whatever it answers."""
    url = httpx.URL(settings.otlp_endpoint)
    _asked(url)
    return f"the collector answers, {_tls(url.scheme == 'https')}"


def _asked(url: httpx.URL, *, auth: tuple[str, str] | None = None) -> httpx.Response:
    try:
        return httpx.get(url, auth=auth, timeout=TIMEOUT_S)
    except (httpx.HTTPError, ssl.SSLError) as error:
        raise DependencyFault(
            f"{url.host}, port {url.port or url.scheme}, does not answer: {error}"
        ) from error


def _tls(is_encrypted: bool) -> str:
    return "TLS" if is_encrypted else "no TLS"
