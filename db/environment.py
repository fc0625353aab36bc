"""Read variables of the environment: unknown names, secrets in files, and what a fault is called.

No message contains the value of a variable, which may be a secret.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

PREFIX = "CLAMOR_"
#: A variable of this name has the path of a file with the value, as Docker and Kubernetes mount
#: secrets.
FILE_SUFFIX = "_FILE"
#: No secret is longer.
LONGEST_FILE_BYTES = 65_536
#: Kubernetes adds variables about each Service of a namespace; one may be called ``clamor``.
_OF_KUBERNETES = re.compile(r"\w+_SERVICE_(HOST|PORT(_\w+)?)|\w+_PORT_\d+_(TCP|UDP|SCTP)(_\w+)?")
_KUBERNETES_ADDRESS = re.compile(r"(tcp|udp|sctp)://")
#: The tests' own variables begin with this.
_OF_TESTS = "CLAMOR_TEST_"


def unknown(environment: Mapping[str, str], known: Iterable[str]) -> list[str]:
    """Return a line for each variable that begins with ``CLAMOR_`` and is not a known one."""
    names = set(known)
    return [
        f"{name} is not a setting{_nearest(name, names)}; see docs/settings.md"
        for name in sorted(environment)
        if name.startswith(PREFIX) and name not in names and not _is_foreign(name, environment)
    ]


def text(environment: Mapping[str, str], variable: str, *, is_secret: bool) -> str:
    """Return the value of a variable, or of the file of a secret; empty if neither is set.

    Raises
    ------
    ValueError
        If both are set, or the file cannot be read.
    """
    value = environment.get(variable, "").strip()
    named = environment.get(variable + FILE_SUFFIX, "").strip() if is_secret else ""
    if not named:
        return value
    if value:
        raise ValueError(f"it must be set alone, without {variable}{FILE_SUFFIX}")
    return _of_file(Path(named))


def missing(variable: str) -> str:
    """Return the fault of a required variable that is not set."""
    return f"{variable} is not set; see docs/settings.md"


def unreadable(variable: str, error: ValueError) -> str:
    """Return the fault of a variable whose value cannot be parsed."""
    # Python's own messages repeat the value.
    reason = str(error) if "must" in str(error) else "it must be a number"
    return f"{variable} cannot be read: {reason}"


def _of_file(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(LONGEST_FILE_BYTES + 1)
        value = content.decode().strip()
    except OSError as error:
        raise ValueError(f"its file {path} must be readable ({error.strerror})") from None
    except UnicodeDecodeError:
        raise ValueError(f"its file {path} must be text in UTF-8") from None
    if not value or len(content) > LONGEST_FILE_BYTES:
        raise ValueError(
            f"its file {path} must have a value, of at most {LONGEST_FILE_BYTES} bytes"
        )
    return value


def _nearest(name: str, known: set[str]) -> str:
    ours = sorted(each.removeprefix(PREFIX) for each in known if each.startswith(PREFIX))
    found = difflib.get_close_matches(name.removeprefix(PREFIX), ours, n=1)
    return f" (did you mean {PREFIX}{found[0]}?)" if found else ""


def _is_foreign(name: str, environment: Mapping[str, str]) -> bool:
    return bool(
        name.startswith(_OF_TESTS)
        or _OF_KUBERNETES.fullmatch(name)
        or (name.endswith("_PORT") and _KUBERNETES_ADDRESS.match(environment[name]))
    )
