"""The names of files that others chose, for display: never used as a path."""

from __future__ import annotations

import unicodedata
from email.message import Message

#: File names are cut to this length for display.
NAME_CHARS = 200
DEFAULT_NAME = "recording"


def display_name(name: str) -> str:
    """Return a file name for display: its last part, on one line, of bounded length."""
    last = name.replace("\\", "/").rstrip("/").rpartition("/")[2]
    printable = "".join(
        character if unicodedata.category(character)[0] != "C" else " " for character in last
    )
    return " ".join(printable.split())[:NAME_CHARS] or DEFAULT_NAME


def attachment_name(disposition: str) -> str | None:
    """Return the file name of a ``Content-Disposition`` header; None without one."""
    message = Message()
    try:
        message["Content-Disposition"] = disposition
        name = message.get_filename()
    except (LookupError, ValueError):
        # An unknown character set, or a header that cannot be parsed.
        return None
    return display_name(name) if name else None
