"""The Python client of the HTTP API.

It has its own structs for what the API sends (``wire/``) and imports nothing of the server, so that
a program that only sends recordings loads no database library.
"""

from __future__ import annotations

from services.client.client import Client, Options
from services.client.errors import ApiError

__all__ = ["ApiError", "Client", "Options"]
