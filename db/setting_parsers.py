"""Parse the values of settings. The docstring of each parser is the type in docs/settings.md.

Each raises ValueError with a message that says what the value must be.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Network, IPv6Network, ip_network
from urllib.parse import urlsplit

from db.connection_options import NO_POOLER, TRANSACTION_POOLER

#: The upper bound of settings in days: a hundred years.
MOST_DAYS = 36_500
#: The upper bound of the setting `max_batch_items`.
MOST_BATCH_ITEMS = 100_000
#: A shorter key or pepper can be guessed by an attacker who has the database.
SHORTEST_KEY = 32
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
#: Precedes the hash of a file of weights.
BACKBONE_MARK = "#sha256="
#: An origin as browsers send it.
_ORIGIN = re.compile(r"https?://[a-z0-9.-]+(:[0-9]{1,5})?")


def database_url(text: str) -> str:
    """Address of a Postgres database."""
    # Imported only here, because it takes most of the time to import this module.
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        url = make_url(text)
        is_postgres = url.get_backend_name() in ("postgresql", "postgres")
        # A host with an @ is the end of a password, and would be printed in errors.
        is_right = is_postgres and "@" not in (url.host or "")
    except (ArgumentError, ValueError):
        is_right = False
    if not is_right:
        raise ValueError(
            "it must be postgresql://user:password@host/name, with %40 for an @ in the password"
        )
    return text


def amqp_url(text: str) -> str:
    """Address of RabbitMQ."""
    # Imported only here, because most commands do without it.
    import pika

    if text == "memory://":
        return text
    try:
        parts = urlsplit(text)
        # A host with an @ is the end of a password, and would be printed in errors.
        is_right = parts.scheme in ("amqp", "amqps") and "@" not in (parts.hostname or "@")
        pika.URLParameters(text)
    except OSError:
        raise ValueError("its ssl_options must name files that can be read") from None
    except (ValueError, LookupError, TypeError, AttributeError, SyntaxError):
        # The reason would repeat a part of the URL, possibly of its password.
        is_right = False
    if not is_right:
        raise ValueError(
            "it must be amqp://user:password@host/vhost or amqps://..., with %2F for a / in a name"
        )
    return text


def blob_url(text: str) -> str:
    """Address of a folder or of a bucket."""
    try:
        parts = urlsplit(text)
        is_folder = parts.scheme == "file" and not parts.netloc and len(parts.path) > 1
        is_bucket = parts.scheme == "s3" and bool(parts.hostname) and parts.hostname == parts.netloc
    except ValueError:
        is_folder = is_bucket = False
    if not (is_folder or is_bucket):
        raise ValueError("it must be file:///folder or s3://bucket/prefix")
    return text


def web_address(text: str) -> str:
    """Address of a web server."""
    if not _is_web_address(text):
        raise ValueError("it must be http://host:port or https://host:port")
    return text


def pepper(text: str) -> str:
    """Text of at least 32 characters, or several, separated by commas."""
    _check_keys(text, document="docs/accounts.md")
    return text


def secret_keys(text: str) -> tuple[str, ...]:
    """Texts of at least 32 characters, separated by commas."""
    return _check_keys(text, document="docs/webhooks.md")


def _check_keys(text: str, *, document: str) -> tuple[str, ...]:
    keys = tuple(each.strip() for each in text.split(","))
    if any(len(each) < SHORTEST_KEY for each in keys):
        raise ValueError(
            f"it must have at least {SHORTEST_KEY} characters, such as from"
            f" `openssl rand -base64 32`; see {document}"
        )
    return keys


def positive_float(text: str) -> float:
    """Number above 0."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise ValueError("must be a number above zero")
    return value


def not_negative(text: str) -> float:
    """Number of at least 0."""
    value = float(text)
    if not 0 <= value < float("inf"):
        raise ValueError("must be a number that is not below zero")
    return value


def days(text: str) -> float:
    """Number above 0, at most 36,500."""
    # Far beyond it, an age has no date in Postgres or Python.
    if not 0 < (value := float(text)) <= MOST_DAYS:
        raise ValueError(f"must be a number above zero, at most {MOST_DAYS}")
    return value


def days_or_zero(text: str) -> float:
    """Number from 0 to 36,500."""
    return 0.0 if float(text) == 0 else days(text)


def share(text: str) -> float:
    """Number above 0 and up to 1."""
    value = float(text)
    if not 0 < value <= 1:
        raise ValueError("must be above 0 and at most 1")
    return value


def listening_address(text: str) -> tuple[str, int]:
    """Address and port: `address:port`, an IPv6 address in brackets."""
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if host is None or port is None or parts.netloc != text:
        raise ValueError("must be an address and a port, such as 0.0.0.0:8001")
    return host, port


def switch(text: str) -> bool:
    """`on` or `off`."""
    known = {"on": True, "true": True, "1": True, "off": False, "false": False, "0": False}
    if text.lower() not in known:
        raise ValueError("must be on or off")
    return known[text.lower()]


def not_negative_int(text: str) -> int:
    """Whole number of at least 0."""
    value = int(text)
    if value < 0:
        raise ValueError("must be at least 0")
    return value


def positive_int(text: str) -> int:
    """Whole number of at least 1."""
    value = int(text)
    if value < 1:
        raise ValueError("must be at least 1")
    return value


def batch_items(text: str) -> int:
    """Whole number from 1 to 100,000."""
    value = positive_int(text)
    if value > MOST_BATCH_ITEMS:
        raise ValueError(f"must be at most {MOST_BATCH_ITEMS}")
    return value


def timeout(text: str) -> float:
    """Number above 0, at most 86,400."""
    value = positive_float(text)
    if value > 86_400:
        raise ValueError("must be at most 86400")
    return value


def pooler(text: str) -> str:
    """`none` or `transaction`."""
    if text not in (NO_POOLER, TRANSACTION_POOLER):
        raise ValueError(f"must be {NO_POOLER} or {TRANSACTION_POOLER}")
    return text


def networks(text: str) -> tuple[IPv4Network | IPv6Network, ...]:
    """Networks, separated by commas."""
    try:
        return tuple(ip_network(part.strip()) for part in text.split(",") if part.strip())
    except ValueError:
        raise ValueError("it must be networks such as 10.0.0.0/8, fd00::/8") from None


def backbone_url(text: str) -> str:
    """Address, file, folder or `off`."""
    place, marked, sha256 = text.partition(BACKBONE_MARK)
    if not place or ("://" in place and not _is_web_address(place)):
        raise ValueError("it must be an http(s) address, a file, a folder or off")
    if marked and not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
        raise ValueError(f"{BACKBONE_MARK} must be followed by 64 hexadecimal digits")
    return text


def level(text: str) -> str:
    """Name of a level."""
    if text.upper() not in LEVELS:
        raise ValueError(f"it must be one of {', '.join(LEVELS)}")
    return text.upper()


def _is_web_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def origins(text: str) -> tuple[str, ...]:
    """Origins: scheme, host and port if it is not the usual one, separated by commas."""
    found = tuple(each.strip() for each in text.split(","))
    if not all(_ORIGIN.fullmatch(each) for each in found):
        raise ValueError("must be origins such as https://noise.example.org, without a path")
    return found
