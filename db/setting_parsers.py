"""Parse the values of settings. The docstring of each parser is the type in docs/settings.md.

Each raises ValueError with a message that says what the value must be.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Network, IPv6Network, ip_network
from urllib.parse import urlsplit

from db.connection_options import NO_POOLER, TRANSACTION_POOLER

#: The upper bound of the setting `max_batch_items`.
MOST_BATCH_ITEMS = 100_000
#: Precedes the hash of a file of weights.
BACKBONE_MARK = "#sha256="


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


def positive_float(text: str) -> float:
    """Number above 0."""
    value = float(text)
    if not value > 0:
        raise ValueError("must be above zero")
    return value


def not_negative(text: str) -> float:
    """Number of at least 0."""
    value = float(text)
    if not 0 <= value < float("inf"):
        raise ValueError("must be a number that is not below zero")
    return value


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
    return text.strip().upper()


def _is_web_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
